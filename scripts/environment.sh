# shellcheck shell=sh disable=SC2154,SC3013
# Sourced by the scripts beside it; expects $root, gives $venv. No process is started when the
# environment is complete, so that a start costs next to nothing; `-nt` is known to every sh in use.

# use_environment KIND DIRECTORY: makes sure that DIRECTORY holds a complete environment.
use_environment() {
  locate_environment "$2"
  if environment_is_current; then
    return
  fi
  find_python
  # In the checkout, so that nothing in the user's directory can shadow a module. The log and the
  # progress are for people: standard input and output belong to the command that follows.
  # PYTHONSAFEPATH would keep modules from being found there.
  (cd -- "$root" && PYTHONSAFEPATH='' exec "$python" -m scripts.bootstrap "$1" "$venv") </dev/null >&2
}

# start_in_environment DIRECTORY ARGUMENT...: becomes tanuki in the complete environment in DIRECTORY.
start_in_environment() {
  locate_environment "$1"
  shift
  if environment_is_current; then
    exec "$venv/bin/tanuki" "$@"
  fi
  find_python
  here=$PWD
  cd -- "$root"
  PYTHONSAFEPATH='' exec "$python" -m scripts.bootstrap run "$venv" "$here" "$@"
}

# locate_environment DIRECTORY: sets $venv to its absolute path.
locate_environment() {
  case $1 in
    /*) venv=$1 ;;
    *) venv=$PWD/$1 ;;
  esac
}

# The stamp is written last, names the checkout, and is newer than what the environment is made from.
environment_is_current() {
  stamp=$venv/complete
  [ -x "$venv/bin/python" ] || return 1
  [ "$stamp" -nt "$root/pyproject.toml" ] || return 1
  [ "$stamp" -nt "$root/scripts/bootstrap.py" ] || return 1
  IFS= read -r made_for <"$stamp" || return 1
  [ "$made_for" = "$root" ]
}

# Sets $python to a Python 3.10 or later that can make environments.
find_python() {
  without_venv=
  if [ -n "${TANUKI_PYTHON:-}" ]; then
    set -- "$TANUKI_PYTHON"
  else
    # Those that were tried first.
    set -- python3.13 python3.12 python3.11 python3.10 python3.14 python3 python
  fi
  for python in "$@"; do
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' </dev/null >/dev/null 2>&1 || continue
    if "$python" -c 'import ensurepip, venv' </dev/null >/dev/null 2>&1; then
      return
    fi
    without_venv=$python
  done
  if [ -n "$without_venv" ]; then
    version=$("$without_venv" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    fail \
      "この Python $version には環境を作る venv モジュールがありません。" \
      "対処: sudo apt install python$version-venv" \
      "This Python $version cannot make environments: its venv module is missing." \
      "Try: sudo apt install python$version-venv"
  fi
  if [ -n "${TANUKI_PYTHON:-}" ]; then
    fail \
      "TANUKI_PYTHON の $TANUKI_PYTHON は、Python 3.10 以降ではありません。" \
      "対処: 別の Python を指定するか、unset TANUKI_PYTHON を実行してください。" \
      "TANUKI_PYTHON names $TANUKI_PYTHON, which is no Python 3.10 or later." \
      "Try: name another one, or unset TANUKI_PYTHON"
  fi
  fail \
    "Python 3.10 以降が見つかりません。" \
    "対処: Python を入れるか、TANUKI_PYTHON=/path/to/python3 のように場所を指定してください。" \
    "Python 3.10 or later was not found." \
    "Try: install Python, or name it with TANUKI_PYTHON=/path/to/python3."
}

# fail SENTENCE_JA HINT_JA SENTENCE_EN HINT_EN
fail() {
  case ${TANUKI_LANG:-${LC_ALL:-${LC_MESSAGES:-${LANG:-}}}} in
    ja*) printf 'エラー: %s\n%s\n' "$1" "$2" >&2 ;;
    *) printf 'error: %s\n%s\n' "$3" "$4" >&2 ;;
  esac
  exit 1
}
