# Steps that show progress, for the scripts beside this file. Source it; needs bash with -euo pipefail.

if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
  bold=$'\e[1m' green=$'\e[32m' red=$'\e[31m' dim=$'\e[2m' plain=$'\e[0m'
else
  bold='' green='' red='' dim='' plain=''
fi

say() { printf '%s\n' "$*"; }

# Elapsed time since $1 (tenths of seconds, of `now`), for people.
now() {
  local t=${EPOCHREALTIME/[.,]/}
  printf '%s' "$((t / 100000))"
}
elapsed() {
  local tenths=$(($(now) - $1))
  if ((tenths >= 1200)); then printf '%d min %d s' $((tenths / 600)) $((tenths / 10 % 60)); else printf '%d.%d s' $((tenths / 10)) $((tenths % 10)); fi
}

# While a step runs: every second on a terminal, every 20 seconds in a log. Shows the last line of the step's own log.
_tick() {
  local log=$1 text=$2 start=$3 every=1 last never
  [[ -t 1 ]] || every=20
  exec {never}<> <(:)  # a pipe nobody writes to: waiting on it needs no child that could be left behind
  while :; do
    read -r -t $every -u "$never" last || true
    kill -0 $$ 2>/dev/null || exit 0
    last=$(tail -c 400 "$log" 2>/dev/null | tr '\r' '\n' | grep -v '^$' | tail -n 1 | cut -c 1-60 || true)
    if [[ -t 1 ]]; then
      printf '\r\e[K  … %s %s%s  %s%s' "$text" "$dim" "$(elapsed "$start")" "$last" "$plain"
    else
      printf '  … %s  %s  %s\n' "$text" "$(elapsed "$start")" "$last"
    fi
  done
}

ticker=''
stop_ticker() {
  [[ -n $ticker ]] || return 0
  kill "$ticker" 2>/dev/null || true
  wait "$ticker" 2>/dev/null || true
  ticker=''
  if [[ -t 1 ]]; then printf '\r\e[K'; fi
}

# step LOG TEXT COMMAND...   runs COMMAND with its output in LOG; when it fails, shows the end of LOG and returns its status.
step() {
  local log=$1 text=$2 start status=0
  shift 2
  start=$(now)
  : >>"$log"
  _tick "$log" "$text" "$start" &
  ticker=$!
  "$@" >>"$log" 2>&1 </dev/null || status=$?
  stop_ticker
  if ((status == 0)); then
    say "  ${green}✓${plain} $text ${dim}($(elapsed "$start"))${plain}"
    return 0
  fi
  say "  ${red}✗${plain} $text failed with status $status after $(elapsed "$start")" >&2
  show_log "$log"
  return "$status"
}

# The end of a log, and where the rest is.
show_log() {
  say "    the last lines of $1:" >&2
  tail -n "${2:-15}" "$1" 2>/dev/null | cut -c 1-300 | sed 's/^/    | /' >&2
}
