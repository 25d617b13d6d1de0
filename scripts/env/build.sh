# Sourced by with_env: build the package outside the checkout, only when something changed.

package=spatial_fm_ros
checkout_key=$(printf '%s' "$checkout" | sha256sum | cut -c1-8)

# Sets workspace and install for this checkout and this ROS.
workspace_paths() {
  workspace=$(build_folder)/$checkout_key-$ros_key
  install=$workspace/install/$package
}

# Where builds lie: in the cache, or where its path has letters that the message generator loses, in a folder of
# this user's alone beside the system's temporary files.
build_folder() {
  local folder=$cache/build
  case $folder in
    *[!\ -~]*) folder=/var/tmp/spatial_fm_ros-$(id -u)-$(printf '%s' "$cache" | sha256sum | cut -c1-8) ;;
  esac
  printf '%s' "$folder"
}

# Nobody else may have made the folder beside the temporary files, or write into it.
own_build_folder() {
  local folder
  folder=$(build_folder)
  [ "$folder" != "$cache/build" ] || return 0
  mkdir -m 700 "$folder" 2>/dev/null || true
  [ -d "$folder" ] && [ ! -L "$folder" ] && [ -O "$folder" ] && [ "$(stat -c %a "$folder")" = 700 ] ||
    die "The folder $folder must be this user's own, with mode 700; remove it, or set SPATIAL_FM_CACHE to a path of plain letters."
}

# Changes here need the compiler.
compiled_state() {
  cd "$checkout"
  cat CMakeLists.txt package.xml scripts/env/build.sh
  find msg srv -type f | LC_ALL=C sort | xargs cat
  find msg srv scripts/nodes -type f | LC_ALL=C sort
}

# New or removed files here need new links; edits do not, the links point into the checkout.
linked_state() {
  cd "$checkout"
  find "$package" launch config -type f ! -name '*.pyc' ! -name '*.tmp' | LC_ALL=C sort
}

build_package() {
  local compiled linked
  workspace_paths
  compiled=$(compiled_state | sha256sum)
  linked=$(linked_state | sha256sum)
  if is_built "$compiled" compiled && is_built "$linked" linked; then return; fi
  own_build_folder
  mkdir -p "$workspace"
  hold_lock "$workspace/lock" "building the package"
  if ! is_built "$compiled" compiled; then
    run_colcon
  elif ! is_built "$linked" linked; then
    relink
  fi
  find "$workspace/install" -xtype l -delete # links to files that are gone
  printf '%s' "$compiled" >"$workspace/compiled"
  printf '%s' "$linked" >"$workspace/linked"
  release_lock
}

is_built() { [ -e "$workspace/$2" ] && [ "$(cat "$workspace/$2")" = "$1" ]; }

run_colcon() {
  local environment arguments
  mapfile -t environment < <(build_environment)
  mapfile -t arguments < <(cmake_arguments)
  rm -rf "$workspace/compiled" "$workspace/linked"
  step "building the package (messages, links to the sources)" "$workspace/logs/build.log" \
    env "${environment[@]}" "$(colcon_command)" --log-base "$workspace/log" build --base-paths "$checkout" \
    --packages-select "$package" --build-base "$workspace/build" --install-base "$workspace/install" \
    --symlink-install --event-handlers console_direct+ desktop_notification- \
    --cmake-args -DBUILD_TESTING=OFF "${arguments[@]}"
}

relink() {
  local environment
  mapfile -t environment < <(build_environment)
  step "linking new files" "$workspace/logs/link.log" \
    env -C "$workspace" "${environment[@]}" cmake --install "$workspace/build/$package"
}
