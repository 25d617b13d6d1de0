# Sourced by with_env: find a Python 3.12 that runs, or have uv fetch one.

uv_version=0.13.9

is_python312() {
  [ -x "$1" ] && "$1" -c 'import sys; raise SystemExit(sys.version_info[:2] != (3, 12))' >/dev/null 2>&1
}

# find_python: set `python` to the real interpreter, or die with one sentence.
find_python() {
  local candidate folder tried
  for candidate in python3.12 python3 python; do
    # A pyenv shim exists for every name but runs only the version that is selected: `type -a` gives all.
    while IFS= read -r folder; do
      if is_python312 "$folder"; then
        resolve_python "$folder"
        return
      fi
    done < <(type -aP "$candidate")
  done
  for folder in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.12*/bin; do
    if is_python312 "$folder/python3.12"; then
      resolve_python "$folder/python3.12"
      return
    fi
  done
  if find_uv; then
    export UV_PYTHON_INSTALL_DIR=${UV_PYTHON_INSTALL_DIR:-$cache/python} UV_CACHE_DIR=${UV_CACHE_DIR:-$cache/uv/cache}
    candidate=$("$uv" python find --no-project 3.12 2>/dev/null || true)
    if ! is_python312 "$candidate"; then
      attempt "fetching Python 3.12 with uv (30 MB)" "$cache/logs/uv.log" "$uv" python install --no-bin 3.12 || true
      candidate=$("$uv" python find --no-project 3.12 2>/dev/null || true)
    fi
    if is_python312 "$candidate"; then
      resolve_python "$candidate"
      return
    fi
    tried=", and uv could not fetch one ($cache/logs/uv.log)"
  else
    tried=", and no Python from 3.9 on that could bring uv"
  fi
  die "No Python 3.12 was found in PATH or pyenv$tried; install it with 'apt install python3.12 python3.12-venv python3.12-dev' (Ubuntu 24.04), 'pyenv install 3.12' or 'uv python install 3.12'."
}

resolve_python() { python=$("$1" -c 'import sys; print(sys.executable)'); }

# find_uv: set `uv` to the one in PATH, or bring it from the package index into the cache with any Python's pip.
find_uv() {
  uv=$(command -v uv || true)
  [ -z "$uv" ] || return 0
  uv=$cache/uv/$uv_version/bin/uv
  [ ! -x "$uv" ] || return 0
  local name candidate
  for name in python3 python python3.{9..19}; do
    while IFS= read -r candidate; do
      is_older_python "$candidate" || continue
      bring_uv "$candidate"
      return
    done < <(type -aP "$name")
  done
  return 1
}

is_older_python() { "$1" -c 'import sys; raise SystemExit(sys.version_info < (3, 9))' >/dev/null 2>&1; }

# bring_uv PYTHON: with its pip, or where it has none (Debian's) with that of a virtual environment.
bring_uv() {
  local pip=("$1" -m pip) log=$cache/logs/bring_uv.log folder=$cache/uv/$uv_version
  mkdir -p "$cache/logs" "$cache/uv"
  rm -rf "$folder.venv" "$folder.new"
  if ! "${pip[@]}" --version >/dev/null 2>&1; then
    "$1" -c 'import ensurepip, venv' 2>/dev/null ||
      need_apt "python3-venv" "no Python 3.12 is here, and $1 has neither pip nor venv to bring uv, which can fetch one"
    "$1" -m venv "$folder.venv" >"$log" 2>&1 || return 1
    pip=("$folder.venv/bin/python" -m pip)
  fi
  attempt "no Python 3.12 here; bringing uv, which can fetch one (20 MB)" "$log" "${pip[@]}" install \
    --disable-pip-version-check --no-input --progress-bar off --no-deps --only-binary :all: \
    --target "$folder.new" "uv==$uv_version" && [ -x "$folder.new/bin/uv" ] || return 1
  mv "$folder.new" "$folder"
  rm -rf "$folder.venv"
}
