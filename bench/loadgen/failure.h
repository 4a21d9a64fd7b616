// How the generator ends when it cannot go on: one line on stderr, and an exit code that tells whose fault it was.
#pragma once

#include <cstdarg>
#include <cstdio>
#include <cstdlib>

/** 2 is wrong usage. */
enum ExitCode { kCorrupted = 3, kServerFailed = 4, kNotConnected = 5, kSystem = 6 };

[[noreturn, gnu::format(printf, 2, 3)]] inline void fail(ExitCode code, const char* format, ...) {
  std::fputs("loadgen: ", stderr);
  va_list arguments;
  va_start(arguments, format);
  std::vfprintf(stderr, format, arguments);
  va_end(arguments);
  std::fputc('\n', stderr);
  std::_Exit(code);
}
