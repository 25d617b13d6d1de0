# Sourced by with_env: find a Python 3.12 that runs.

is_python312() {
  [ -x "$1" ] && "$1" -c 'import sys; raise SystemExit(sys.version_info[:2] != (3, 12))' >/dev/null 2>&1
}

# find_python: set `python` to the real interpreter, or die with one sentence.
find_python() {
  local candidate folder
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
  if command -v uv >/dev/null; then
    candidate=$(uv python find 3.12 2>/dev/null || true)
    if ! is_python312 "$candidate"; then
      step "Python 3.12 through uv" "$cache/logs/uv.log" uv python install 3.12
      candidate=$(uv python find 3.12 2>/dev/null || true)
    fi
    if is_python312 "$candidate"; then
      resolve_python "$candidate"
      return
    fi
  fi
  die "No Python 3.12 was found in PATH or pyenv, and uv could not give one; install it with 'apt install python3.12 python3.12-venv python3.12-dev' (Ubuntu 24.04), 'pyenv install 3.12' or 'uv python install 3.12'."
}

resolve_python() { python=$("$1" -c 'import sys; print(sys.executable)'); }
