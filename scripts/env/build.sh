# Sourced by with_env: build the package outside the checkout, only when something changed.

package=spatial_fm_ros
checkout_key=$(printf '%s' "$checkout" | sha256sum | cut -c1-8)

# Sets workspace and install for this checkout and this ROS.
workspace_paths() {
  workspace=$cache/build/$checkout_key-$ros_key
  install=$workspace/install/$package
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
