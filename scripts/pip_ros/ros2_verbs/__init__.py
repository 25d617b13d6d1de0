"""Commands that the ROS 2 from PyPI lacks, as ordinary extensions of its ros2 command."""
