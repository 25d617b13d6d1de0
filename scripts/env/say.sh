# Sourced by with_env: messages, visible steps, locks.

say() { printf '%s\n' "[spatial_fm_ros] $*" >&2; }

die() {
  printf '%s\n' "[spatial_fm_ros] ERROR: $*" >&2
  exit 1
}

# step NAME LOG CMD...: run CMD with its output in LOG, or end with why it failed.
step() { attempt "$@" || explain_failure "$1" "$2"; }

# attempt NAME LOG CMD...: run CMD with its output in LOG; say what it is doing every five seconds. Gives its status.
attempt() {
  local name=$1 log=$2 pid status=0 start=$SECONDS next=5 line
  shift 2
  mkdir -p "$(dirname "$log")"
  say "$name ..."
  "$@" >"$log" 2>&1 </dev/null &
  pid=$!
  # A signal to this script alone must not leave pip or a compiler running.
  trap 'kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true
    say "interrupted; run the same command again to go on"; exit 130' INT TERM
  while kill -0 "$pid" 2>/dev/null; do
    sleep 0.2
    if [ $((SECONDS - start)) -ge $next ]; then
      line=$(tail -c 2000 "$log" | tr '\r' '\n' | grep -v '^[[:space:]]*$' | tail -n 1 | cut -c1-100 || true)
      say "  $((SECONDS - start)) s${line:+: $line}"
      next=$((next + 5))
    fi
  done
  wait "$pid" || status=$?
  trap - INT TERM
  [ $status -ne 0 ] || say "$name: done in $((SECONDS - start)) s"
  return $status
}

# One sentence for the usual causes, then the end of the log.
explain_failure() {
  local name=$1 log=$2 cause="see the log"
  if grep -qiE 'No space left on device|Errno 28' "$log"; then
    cause="the disk is full; free some space or set SPATIAL_FM_CACHE to a folder on a larger disk"
  elif grep -qiE 'NewConnectionError|NameResolutionError|name resolution|Network is unreachable|Max retries exceeded|Connection refused|ConnectTimeout|ProxyError' "$log"; then
    cause="the package index cannot be reached; check the network (or PIP_INDEX_URL and the proxy) and run the same command again, it goes on where it stopped"
  elif grep -qiE 'SSLError|CERTIFICATE_VERIFY_FAILED' "$log"; then
    cause="the certificate of the package index is not accepted; set PIP_CERT to your organisation's certificate bundle"
  elif grep -qiE 'No matching distribution|Could not find a version' "$log"; then
    cause="the package index does not have a locked package for this machine ($(uname -m)); see docs/installation.md"
  fi
  tail -n 15 "$log" | cut -c1-300 >&2
  die "'$name' failed: $cause. Whole log: $log"
}

# hold_lock FILE WHAT: wait until no other run holds FILE; freed by release_lock or when this script ends.
hold_lock() {
  command -v flock >/dev/null || die "The command 'flock' is missing; install it with: apt install util-linux"
  exec 9>"$1"
  if ! flock -n 9; then
    say "another run is at it ($2); waiting for it ..."
    flock 9
  fi
}

release_lock() { exec 9>&-; }

free_megabytes() { df -Pk "$1" | awk 'NR == 2 {print int($4 / 1024)}'; }

need_space() {
  local megabytes
  megabytes=$(free_megabytes "$1")
  [ "$megabytes" -ge "$2" ] ||
    die "$1 has $megabytes MB free and the set-up needs $2 MB; free some space or set SPATIAL_FM_CACHE to a folder on a larger disk."
}

# need_apt FILE_OR_TEST PACKAGES WHY: install Debian packages when root, else say the line to run.
need_apt() {
  local packages=$1 why=$2
  if [ "$(id -u)" -eq 0 ] && [ -z "${SPATIAL_FM_NO_APT:-}" ] && command -v apt-get >/dev/null; then
    # shellcheck disable=SC2086
    step "apt-get install $packages ($why)" "$cache/logs/apt.log" \
      sh -c "apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $packages"
  else
    die "$why: install it with: sudo apt install $packages"
  fi
}

# Tools that would leave caches in the checkout leave them in the cache folder.
keep_checkout_clean() {
  local tools=$cache/tools/$checkout_key # one checkout's caches mislead another's tools
  export RUFF_CACHE_DIR=$tools/ruff MYPY_CACHE_DIR=$tools/mypy
  export HYPOTHESIS_STORAGE_DIRECTORY=$tools/hypothesis
}

# Removes what with_env made, by the marks it leaves; other files in the cache folder stay.
clean_all() {
  local mark
  for mark in "$cache"/*/done.* "$cache"/*/begun.*; do
    [ ! -e "$mark" ] || rm -rf "$(dirname "$mark")"
  done
  rm -rf "$cache/build" "$(build_folder)" "$cache/tools" "$cache/logs" "$cache/lock" "$cache/uv" "$cache/python"
}

# ROS's own tools end where they cannot write their logs.
use_writable_logs() {
  local folder=${ROS_LOG_DIR:-${ROS_HOME:-${HOME:-/nonexistent}/.ros}/log}
  { mkdir -p "$folder" 2>/dev/null && [ -w "$folder" ]; } || {
    export ROS_LOG_DIR=$cache/ros_logs
    mkdir -p "$ROS_LOG_DIR"
    say "$folder cannot be written; ROS logs go to $ROS_LOG_DIR"
  }
}

# use_large_messages FOLDER: the Fast DDS profile that fits this machine's shared memory, unless one is set.
use_large_messages() {
  local free profile=$1/fastdds.xml variable=FASTDDS_DEFAULT_PROFILES_FILE
  case ${ROS_DISTRO:-jazzy} in humble | iron | jazzy) variable=FASTRTPS_DEFAULT_PROFILES_FILE ;; esac
  [ -z "${!variable:-}" ] || return 0
  free=$(free_megabytes /dev/shm 2>/dev/null || echo 0)
  [ "${free:-0}" -ge 1000 ] || profile=$1/fastdds_small.xml
  export "$variable=$profile"
  if [ "${free:-0}" -lt 1000 ]; then
    say "/dev/shm has only ${free:-0} MB free, large images and clouds may be lost; give a container --shm-size=1g"
  fi
}
