#!/usr/bin/env python3
"""Checks what a compiler does not: who includes whom, who calls the outside world, headers that say nothing, names that no longer exist.

usage: check.py [SOURCE_DIR]      exit 0, or 1 with one line per finding: FILE:LINE: what, and what to do
       check.py --self-test       every kind of finding is found in a tree made to have it
"""
import os
import re
import sys
import tempfile

PROGRAM = ("agent", "aggregator", "common")
MAX_LINES = 700

# Third-party headers and the only folders or files that include them.
DOORS = [
    (r"openssl/", ["common/crypto"]),
    (r"lmdb\.h$", ["common/lmdb"]),
    (r"grpc(pp)?/", None),  # arrows.txt: `grpc`
    (r"boost/", ["common/http"]),
    (r"curl/", ["common/http"]),
    (r"yaml-cpp/", ["common/config"]),
    (r"zstd\.h$", ["common/compress"]),
    (r"zlib\.h$", ["agent/capture"]),
    (r"CLI/", ["agent/main.cc", "aggregator/client", "common/daemon"]),
    (r"(condition_variable|shared_mutex)$", ["common/base"]),
    (r"mutex$", ["common", "agent/spool/spool.cc", "aggregator/client/rpc.cc", "agent/record/pipeline.h", "aggregator/own/journal.h",
               "aggregator/query/gaps.h"]),  # else Guarded, whose data cannot be had unlocked
    (r"(random)$", []),
    (r"absl/synchronization/", []),
    (r"(sys/socket|netdb|netinet/in|netinet/tcp|sys/un)\.h$", ["aggregator/admit/terms.h", "common/http", "agent/capture", "common/rpc", "common/crypto/pin.cc"]),
    (r"iostream$", []),
]

# Calls, what to use instead, and who may make them.
BANNED = [
    (r"absl::Now\(|\bgettimeofday\(|\bclock_gettime\(|steady_clock::now\(", "Clock (common/base/clock.h)", ["common/base"]),
    (r"system_clock::now\((?!\) (\+|>=))", "Clock (common/base/clock.h); only gRPC's deadlines are this clock's", ["common/base"]),
    (r"(?<![\w.>])time\((nullptr|NULL|0)\)", "Clock (common/base/clock.h)", ["common/base"]),
    (r"(?<![\w>])::open(at|at2)?\(|(?<![\w.>:])openat2?\(|\bfopen\(|\bcreat\(|std::[io]?fstream", "Fs (common/fs/file.h)",
     ["common/fs", "common/base/clock.cc", "common/base/last_words.cc", "common/metrics/metrics.cc"]),  # the last three read /proc
    (r"(?<![\w.>:])(::)?(rename|renameat2?|unlink|rmdir|mkdir|ftruncate|truncate)\(", "Fs (common/fs/file.h)", ["common/fs", "common/http/server.cc"]),
    (r"(?<![\w.>:])(::)?(fsync|fdatasync|sync_file_range|msync|sync)\(", "Fs (common/fs/file.h)", ["common/fs"]),
    (r"(?<![\w.>:])(::)?(s?rand|random|drand48|rand_r)\(|std::(mt19937|random_device|uniform_int_distribution)", "Rng (common/base/random.h)", []),
    (r"(?<![\w.>:])(::)?(connect|bind|listen|accept4?)\(", "the doors: common/http, common/rpc", ["common/http", "common/crypto/pin.cc"]),
    (r"\b(secure_)?getenv\(|\bsetenv\(|\bputenv\(", "a flag or a configuration key", ["aggregator/client/context.cc", "common/rpc/credentials.cc", "aggregator/alarms/notifier.cc"]),
    (r"\bsleep_for\(|(?<![\w.>:])u?sleep\(|\bnanosleep\(", "Worker and Tick: a stage says when to call it again", ["common/base"]),
    (r"(?<![\w.>])(std::)?(exit|_exit|abort|quick_exit)\(", "a Status, or CHECK", ["common/base", "common/crypto", "common/lmdb/env.cc", "aggregator/client/commands_store.cc", "aggregator/client/child.cc"]),
    (r"\bsystem\(|\bpopen\(|(?<![\w.>:])(::)?(fork|vfork)\(", "posix_spawn, as aggregator/alarms/notifier.cc; only fsck forks, before any thread",
     ["aggregator/client/commands_store.cc", "aggregator/client/child.cc"]),
    (r"\bstd::(async|regex)\b", "Worker; a plain loop", []),
    (r"\b(strcpy|strcat|sprintf|gets|strtok|atoi|atol)\(", "std::string, snprintf, ParseUint", []),
    (r"absl::Mutex\b", "Guarded (common/base/guarded.h): ThreadSanitizer understands it", []),
    (r"\bmemcmp\([^)]*([Kk]ey|[Ss]ecret|[Tt]oken|[Mm]ac)\b", "EqualSecret: constant time", ["common/json"]),
]

WORDS = [
    (r"\b(TODO|FIXME|XXX|HACK)\b", "finish it, or say nothing"),
    (r"/work/", "a path of somebody's machine"),
]


class Findings:
    def __init__(self):
        self.lines = []

    def add(self, path, line, text):
        self.lines.append(f"{path}:{line}: {text}")


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def files(root, tops, suffixes):
    for top in tops:
        base = os.path.join(root, top)
        if os.path.isfile(base):
            yield top
        for folder, folders, names in os.walk(base):
            folders[:] = sorted(d for d in folders if d not in ("build", "__pycache__"))
            for name in sorted(names):
                if name.endswith(suffixes):
                    yield os.path.relpath(os.path.join(folder, name), root)


def inside(path, allowed):
    return any(path == a or path.startswith(a + "/") for a in allowed)


def code_only(text):
    """The text with comments and the insides of string literals blanked, line by line as it was."""
    out, i, n = [], 0, len(text)
    while i < n:
        two = text[i:i + 2]
        if two == "//":
            end = text.find("\n", i)
            i = n if end < 0 else end
        elif two == "/*":
            end = text.find("*/", i + 2)
            end = n if end < 0 else end + 2
            out.append("\n" * text.count("\n", i, end))
            i = end
        elif two == 'R"':
            close = text.find("(", i)
            mark = ")" + text[i + 2:close] + '"'
            end = text.find(mark, close)
            end = n if end < 0 else end + len(mark)
            out.append('""' + "\n" * text.count("\n", i, end))
            i = end
        elif text[i] == '"' or (text[i] == "'" and not (i and text[i - 1].isalnum())):
            quote, j = text[i], i + 1
            while j < n and text[j] != quote and text[j] != "\n":
                j += 2 if text[j] == "\\" else 1
            out.append(quote + quote)
            i = min(j + 1, n)
        else:
            out.append(text[i])
            i += 1
    return "".join(out)


def load_arrows(path):
    arrows = {}
    for number, line in enumerate(read(path).splitlines(), 1):
        line = line.split("#")[0].strip()
        if not line:
            continue
        left, _, right = line.partition("→")
        if not _:
            raise SystemExit(f"{path}:{number}: FOLDER → what it may include")
        arrows[left.strip()] = right.split()
    return arrows


def rule_of(path, arrows):
    return path if path in arrows else os.path.dirname(path)


def check_includes(root, path, text, arrows, found):
    rule = rule_of(path, arrows)
    folder = os.path.dirname(path)
    allowed = arrows.get(rule)
    if allowed is None:
        found.add(path, 1, f"tests/tidy/arrows.txt does not say what {folder} may include")
        return
    for number, line in enumerate(text.splitlines(), 1):
        m = re.match(r'\s*#\s*include\s+(["<])([^">]+)[">]', line)
        if not m:
            continue
        target = m[2]
        if m[1] == '"':
            if target.startswith("orgtrail/v1/"):
                if "proto" not in allowed:
                    found.add(path, number, f"{target}: only the doors include generated code (tests/tidy/arrows.txt)")
                continue
            if target.split("/")[0] == "absl":
                continue
            if "/" not in target or not os.path.exists(os.path.join(root, target)):
                found.add(path, number, f"{target}: includes are paths from the top of the tree, and this one is not there")
                continue
            of = os.path.dirname(target)
            if of == folder or of == "common/base" or target == os.path.splitext(path)[0] + ".h":
                continue
            if not inside(target, allowed):
                found.add(path, number, f"{rule} may not include {target} (tests/tidy/arrows.txt)")
            continue
        for pattern, doors in DOORS:
            if re.match(pattern, target):
                if doors is None:
                    if "grpc" not in allowed:
                        found.add(path, number, f"<{target}>: only the doors speak gRPC (tests/tidy/arrows.txt)")
                elif not inside(path, doors):
                    found.add(path, number, f"<{target}>: only in {', '.join(doors) or 'no file of ours'}")


def check_calls(path, code, found):
    for number, line in enumerate(code.splitlines(), 1):
        for pattern, instead, allowed in BANNED:
            m = re.search(pattern, line)
            if m and not inside(path, allowed):
                found.add(path, number, f"{m[0].rstrip('(')}: use {instead}")


def check_header(path, text, found):
    if not path.endswith(".h"):
        return
    lines = text.splitlines()
    if not lines or not lines[0].startswith("// "):
        found.add(path, 1, "a header begins with what it is, and what its callers must know")
    if "#pragma once" not in lines[:20 + sum(l.startswith("//") for l in lines)]:
        found.add(path, 1, "#pragma once is missing")


def check_words(path, text, found):
    for number, line in enumerate(text.splitlines(), 1):
        for pattern, why in WORDS:
            m = re.search(pattern, line)
            if m:
                found.add(path, number, f"{m[0]}: {why}")


def check_names(root, path, text, found):
    """Files that documents and comments name are there; a bare name may be anywhere in the tree."""
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(r"\s*#\s*include", line) or not (path.endswith(".md") or re.match(r"\s*(//|#|;)", line)):
            continue
        for m in re.finditer(r"(?<![\w/.$~{-])((?:agent|aggregator|common|proto|tests|docs|deploy|policies)/[\w/.-]*\w)", line):
            name = m[1]
            if re.match(r"[*<{…]|\.\{", line[m.end():]):
                continue
            if os.path.exists(os.path.join(root, name)) or os.path.exists(os.path.join(root, name.split(":")[0])):
                continue
            if re.search(r"\.(h|cc|md|proto|py|txt|cmake|yaml|service)$", name) or path.endswith(".md"):
                found.add(path, number, f"{name} is named here and is not there")


def check(root):
    found = Findings()
    arrows = load_arrows(os.path.join(root, "tests/tidy/arrows.txt"))
    for path in files(root, PROGRAM, (".h", ".cc")):
        text = read(os.path.join(root, path))
        code = code_only(text)
        check_includes(root, path, text, arrows, found)
        check_calls(path, code, found)
    for path in files(root, PROGRAM + ("tests",), (".h", ".cc")):
        text = read(os.path.join(root, path))
        check_header(path, text, found)
        check_words(path, text, found)
        check_names(root, path, text, found)
        lines = text.count("\n")
        if lines > MAX_LINES:
            found.add(path, lines, f"{lines} lines: past {MAX_LINES} a file has two nouns in it; find the second")
    for path in files(root, ("docs", "README.md", "deploy", "proto", "policies", "tests"), (".md", ".proto", ".cmake", ".yaml", ".service")):
        text = read(os.path.join(root, path))
        check_words(path, text, found)
        check_names(root, path, text, found)
    for left in arrows:
        if not os.path.exists(os.path.join(root, left)):
            found.add("tests/tidy/arrows.txt", 1, f"{left} is not in the tree")
    return found.lines


BAD_TREE = {
    "tests/tidy/arrows.txt": ("agent/capture →\nagent/uplink → common/fs\naggregator/ledger →\ncommon/base →\ncommon/fs →\n", []),
    "common/base/a.h": ("// A: all there is.\n#pragma once\n", []),
    "common/fs/b.h": ("// B.\n#pragma once\n", []),
    "aggregator/ledger/l.h": ("// L.\n#pragma once\n", []),
    "agent/capture/c.cc": ('#include "common/fs/b.h"\n#include "common/base/a.h"\n#include <openssl/evp.h>\n#include <grpcpp/grpcpp.h>\n'
                           '#include "orgtrail/v1/x.pb.h"\nint f() { return ::open("x", 0); }\nint g = rand(); // rename( in words is fine\n'
                           'auto t = absl::Now();\nconst char* s = "fsync(";\n',
                           ["common/fs/b.h", "openssl/evp.h", "grpcpp", "orgtrail/v1/x.pb.h", "::open", "rand", "absl::Now"]),
    "agent/uplink/u.cc": ('#include "aggregator/ledger/l.h"\n#include "common/fs/b.h"\n#include "common/base/none.h"\n// TODO later\n',
                          ["aggregator/ledger/l.h", "common/base/none.h: includes", "TODO"]),
    "agent/uplink/silent.h": ("#pragma once\n", ["begins with what it is"]),
    "common/base/long.cc": ("\n" * (MAX_LINES + 1), ["two nouns"]),
    "docs/D.md": ("See `common/base/a.h` and common/base/gone.h.\n", ["common/base/gone.h"]),
}


def self_test():
    with tempfile.TemporaryDirectory() as root:
        expected = 0
        for path, (text, wants) in BAD_TREE.items():
            os.makedirs(os.path.join(root, os.path.dirname(path)), exist_ok=True)
            with open(os.path.join(root, path), "w", encoding="utf-8") as f:
                f.write(text)
            expected += len(wants)
        lines = check(root)
        bad = [f"{p}: not found: {w}" for p, (_, wants) in BAD_TREE.items() for w in wants if not any(l.startswith(p + ":") and w in l for l in lines)]
        if len(lines) != expected:
            bad.append(f"{len(lines)} findings instead of {expected}:\n  " + "\n  ".join(lines))
        return bad


def main():
    lines = self_test() if sys.argv[1:] == ["--self-test"] else check(sys.argv[1] if len(sys.argv) > 1 else ".")
    for line in lines:
        print(line)
    print(f"{len(lines)} findings" if lines else "ok")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
