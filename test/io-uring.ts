// io_uring, and a world without it: an older kernel, a sandbox, a cautious administrator.

import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { descriptors } from './processes.ts';

/**
 * Runs a command in a sandbox that refuses io_uring, or with --enter only its use. Without a command it says whether there is anything to refuse: 0, or 1 if a kernel before 6.1 has
 * less of it, or 2.
 */
const WITHOUT_RING = `
  #include <linux/filter.h>
  #include <linux/io_uring.h>
  #include <linux/seccomp.h>
  #include <sys/prctl.h>
  #include <sys/syscall.h>
  #include <unistd.h>
  #include <cerrno>
  #include <cstddef>
  #include <cstring>
  int main(int argc, char** argv) {
    io_uring_params parameters{};
    parameters.flags = 1u << 12 | 1u << 13;
    if (argc == 1) {
      if (syscall(SYS_io_uring_setup, 1, &parameters) >= 0) return 0;
      parameters = {};
      return syscall(SYS_io_uring_setup, 1, &parameters) >= 0 ? 1 : 2;
    }
    const bool enter = std::strcmp(argv[1], "--enter") == 0;
    if (enter) argv++;
    sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(enter ? SYS_io_uring_enter : SYS_io_uring_setup), 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    sock_fprog filter = {4, program};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) return 1;
    return execv(argv[1], argv + 1);
  }
`;

let program = '';

/** The program that runs a command in that sandbox. */
export function withoutRing(): string {
  if (program !== '') return program;
  const folder = mkdtempSync(join(tmpdir(), 'onewait-without-ring-'));
  program = join(folder, 'without-ring');
  writeFileSync(`${program}.cc`, WITHOUT_RING);
  execFileSync(process.env.CXX ?? 'c++', [`${program}.cc`, '-o', program]);
  return program;
}
afterAll(() => {
  if (program !== '') rmSync(join(program, '..'), { recursive: true, force: true });
});

/** Whether this machine has it, or all that Linux 6.1 has of it. */
export function ringOffered(wanted: 'any' | 'of Linux 6.1' = 'any'): boolean {
  const { status } = spawnSync(withoutRing());
  return status === 0 || (status === 1 && wanted === 'any');
}

/** Whether a running process uses it; this one, if none is named. */
export function hasRing({ pid }: { readonly pid: number } = process): boolean {
  return [...descriptors(pid).values()].includes('anon_inode:[io_uring]');
}
