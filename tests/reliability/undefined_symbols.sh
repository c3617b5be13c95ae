#!/bin/bash
# T8: the library's own object files refer to nothing that ends the process or writes to its
# standard streams.
#   undefined_symbols.sh LIST        LIST: a file with one object file per line
#   undefined_symbols.sh --self-test COMPILER
#                                    shows that each forbidden kind is found
#
# Allowed although they may end the process:
#   __stack_chk_fail, __*_chk        calls of the stack protector and of FORTIFY: memory is already
#                                    overwritten when they act (those that print are forbidden)
#   __cxa_pure_virtual               every table of an abstract class names it; no code calls it
#   the terminate of noexcept        g++ leaves it to the C++ runtime, without a symbol; clang
#                                    generates __clang_call_terminate, beside which a call of
#                                    std::terminate() of our own cannot be told apart
#   exit in objects of .cu files     nvcc gives each device function a host body that exits; no host
#                                    code can call it
set -euo pipefail

forbidden_c='abort|exit|_exit|_Exit|quick_exit|at_quick_exit|raise|__assert|__assert_fail|__assert_perror_fail
|printf|vprintf|fprintf|vfprintf|dprintf|vdprintf|__printf_chk|__vprintf_chk|__fprintf_chk|__vfprintf_chk
|__dprintf_chk|__vdprintf_chk|puts|putchar|putc|fputs|fputc|fwrite|perror|psignal|stdout|stderr|syslog'
forbidden_cpp='std::terminate\(\)|std::unexpected\(\)|std::(cout|cerr|clog|wcout|wcerr|wclog)
|std::ios_base::Init::Init\(\)|std::__glibcxx_assert_fail.*'
pattern="^($(tr -d '\n' <<<"$forbidden_c|$forbidden_cpp"))(@.*)?\$"

# Prints "OBJECT: SYMBOL" for each forbidden reference of the objects listed in the file $1.
forbidden_references() {
  local object
  while IFS= read -r object; do
    [ -n "$object" ] || continue
    local allowed='^$'
    [ -n "$(nm "$object" | grep '__clang_call_terminate')" ] && allowed='^std::terminate\(\)$'
    [[ "$object" == *.cu.o ]] && allowed='^exit$'
    nm -u -C "$object" | sed 's/^ *[Uwv] //' | { grep -E "$pattern" || true; } |
      { grep -vE "$allowed" || true; } | sed "s|^|$object: |"
  done <"$1"
}

self_test() {
  local compiler=$1 folder failed=0
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' RETURN
  check() {  # check WANTED CODE: the object of CODE refers to WANTED ("" for nothing forbidden)
    printf '%s\n' "$2" >"$folder/probe.cpp"
    "$compiler" -std=c++20 -O2 -D_FORTIFY_SOURCE=2 -c "$folder/probe.cpp" -o "$folder/probe.o"
    echo "$folder/probe.o" >"$folder/list"
    local found
    found=$(forbidden_references "$folder/list" | sed 's/^.*\.o: //' | sort -u | tr '\n' ' ')
    local right=1
    if [ -z "$1" ]; then
      [ -z "$found" ] || right=0
    else
      [[ "$found" == *"$1"* ]] || right=0
    fi
    if [ "$right" = 0 ]; then
      printf 'expected "%s", found "%s" in: %s\n' "$1" "$found" "$2"
      failed=1
    fi
  }
  check abort '#include <cstdlib>
    void f() { std::abort(); }'
  check exit '#include <cstdlib>
    void f() { std::exit(1); }'
  check _exit '#include <unistd.h>
    void f() { _exit(1); }'
  check quick_exit '#include <cstdlib>
    void f() { std::quick_exit(1); }'
  check printf '#include <cstdio>
    void f(int x) { std::printf("%d", x); }'
  check stderr '#include <cstdio>
    void f(int x) { std::fprintf(stderr, "%d", x); }'
  check puts '#include <cstdio>
    void f() { std::puts("text"); }'
  check __assert_fail '#include <cassert>
    void f(int x) { assert(x); }'
  check 'std::cout' '#include <iostream>
    void f() { std::cout << 1; }'
  check 'std::terminate()' '#include <exception>
    void f() { std::terminate(); }'
  check '' '#include <cstdio>
    #include <cstring>
    #include <stdexcept>
    #include <string>
    void g();
    void f(char* p, int n) noexcept { g(); std::snprintf(p, 8, "%d", n); }
    void h(const std::string& s) { char b[9]; std::strcpy(b, s.c_str()); throw std::logic_error(b); }'
  [ "$failed" = 0 ] && echo "every forbidden kind is found, and nothing else"
  return "$failed"
}

if [ "$1" = --self-test ]; then
  self_test "$2"
  exit
fi
found=$(forbidden_references "$1")
count=$(grep -c . "$1" || true)
if [ "$count" = 0 ]; then
  echo "no object files listed in $1"
  exit 1
fi
if [ -n "$found" ]; then
  printf '%s\n' "$found"
  exit 1
fi
echo "$count object files, nothing forbidden"
