#!/usr/bin/env python3
"""Mutation of the bundle's checks: is every one of them tested?

Takes the sources that read and validate bundles, and the configs in them, and makes every mutant of
each check that is described below. All mutants are compiled into one program, which takes the number
of the one that is to act from the environment; the tests of bundles then run once for each. Where
FLEXQ_ASSIGN_OR_RETURN stops there is no value to go on with: it is not mutated.

  mutate_bundle_validation.py list                     every mutant with its key
  mutate_bundle_validation.py check                    the script's own test: finds every check, and
                                                       the list of equivalent mutants is current
  mutate_bundle_validation.py generate DIRECTORY       the sources with all mutants in them
  mutate_bundle_validation.py run PROGRAM [KEY...]     the tests against each mutant (or those whose
                                                       key has one of the words in it); fails when
                                                       one survives that is not in the list

Mutants (`key` is "file: function: check: change"; #2 behind it: the second one of that text):

  if (C)                      never, always; each operand of a condition of && or || left out; each
                              of < <= > >= moved by one
  return C, a truth value     the same
  FLEXQ_RETURN_IF_ERROR(s)    s happens, its error is ignored
  return check_x(...)         the same
  FLEXQ_EXPECT_EQUAL(...)     left out
  a limit as an argument      one less, one more
  checks.integer(...) etc.    left out; low and high one less, one more (real: half, twice)

bundle_equivalent_mutants.txt names the mutants that no test can tell from the original, with the
reason: a key per line, the reason indented below it.
"""
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [ROOT / "src/bundle" / name for name in (
    "bundle_header.cpp", "bundle_reader.cpp", "bundle_signature.cpp", "bundle_validate.cpp",
    "chunk_codec.cpp", "directory_decode.cpp")] + [ROOT / "src/model/model_config.cpp"]
EQUIVALENT = Path(__file__).with_name("bundle_equivalent_mutants.txt")
VARIABLE = "FLEXQ_MUTANT"
TIMEOUT_S = 120
# What kills most mutants in a moment comes first; the exhaustive tests take half a minute, and only
# for what is left.
STAGES = [["-tc=T3_*,T4_*", "-tce=*64 MiB*"], ["-tce=T1_*,T2_*,T3_*,T4_*,T36_*"], ["-tc=T36_*"],
          ["-tc=*64 MiB*"], ["-tc=T1_*,T2_*"]]

PRELUDE = """\
#include <cstdlib>
#include <type_traits>
namespace flexq_mutation {
inline const int active = std::getenv("%s") ? std::atoi(std::getenv("%s")) : -1;
constexpr bool on(int id) { return !std::is_constant_evaluated() && active == id; }
}
""" % (VARIABLE, VARIABLE)


def blank(text):
    """The text with comments, literals and preprocessor lines as spaces of the same length."""
    pattern = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|(?<![0-9a-fA-F])\'(?:\\.|[^\'\\])\''
                         r'|^[ \t]*#(?:[^\n]*\\\n)*[^\n]*', re.S | re.M)
    return pattern.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


def closing(code, opening):
    """Index of the bracket that closes the one at `opening`."""
    depth = 0
    for i in range(opening, len(code)):
        depth += code[i] in "([{"
        depth -= code[i] in ")]}"
        if depth == 0:
            return i
    raise ValueError("a bracket is not closed")


def top_level(code, begin, end, separators):
    """Pieces (begin, end) between the separators that stand outside all brackets."""
    pieces, depth, start, i = [], 0, begin, begin
    while i < end:
        depth += code[i] in "([{"
        depth -= code[i] in ")]}"
        found = next((s for s in separators if depth == 0 and code.startswith(s, i)), None)
        if found:
            pieces.append((start, i))
            i = start = i + len(found)
        else:
            i += 1
    return pieces + [(start, end)]


def operands(code, begin, end):
    """(begin, end, what leaves it out) of the operands of && and ||, brackets included."""
    found = []
    for separator, neutral in (("||", "false"), ("&&", "true")):
        pieces = top_level(code, begin, end, [separator])
        if len(pieces) > 1:
            for piece in pieces:
                found.append((*piece, neutral))
                found += operands(code, *piece)
            return found
    inner = re.match(r"\s*!?\(", code[begin:end])
    if inner and closing(code, begin + inner.end() - 1) == begin + len(code[begin:end].rstrip()) - 1:
        return operands(code, begin + inner.end(), begin + len(code[begin:end].rstrip()) - 1)
    return found


def one_line(text):
    return re.sub(r"\s+", " ", text).strip()


def limit_changes(text):
    """(description, text with it) for each limit that is an argument."""
    changes = []
    for m in re.finditer(r"(?<=, )(kMax\w+)(?=,)", text):
        for name, sign in (("one less", "-"), ("one more", "+")):
            changes.append((f"{m.group()} {name}",
                            f"{text[:m.start()]}{m.group()} {sign} 1{text[m.end():]}"))
    return changes


class Source:
    """One file: its mutants as (key, edit), an edit being what stands in place of a span."""

    def __init__(self, name, text):
        self.name, self.text, self.code = name, text, blank(text)
        self.mutants = []  # keys; the index is the mutant's number in this file
        self.edits = []    # (begin, end, function of the first number: new text)
        self.keys = {}
        self.sites = {"if": 0, "return": 0, "propagate": 0, "equal": 0, "limit": 0,
                      "range": 0}
        self.scan()

    def function_at(self, at):
        """Name of the function around: what begins a line, or a class's indented member."""
        best = "?"
        for m in re.finditer(r"^(?:  )?(?!return\b)(?:[A-Za-z_][\w:<>,&* ]*[ &*>])?(~?[\w:]+)\([^;{}]*\)"
                             r"(?: const)?(?: noexcept)?(?:\s*:[^{};]*)? \{", self.code, re.M):
            if m.start() > at:
                break
            if m.group(1) not in ("if", "for", "while", "switch"):
                best = m.group(1)
        return best

    def key(self, at, check, change):
        key = f"{self.name}: {self.function_at(at)}: {one_line(check)}: {change}"
        n = self.keys[key] = self.keys.get(key, 0) + 1
        return key if n == 1 else f"{key} #{n}"

    def edit(self, kind, begin, end, changes, build):
        """changes: (description, payload); build(first number, payloads): the new text."""
        if any(b < end and begin < e for b, e, _ in self.edits):
            raise ValueError(f"{self.name}: checks overlap at {self.text[begin:end]}")
        self.sites[kind] += 1
        label = {"if": "if (%s)", "return": "return %s"}.get(kind, "%s") % self.text[begin:end]
        first = len(self.mutants)
        self.mutants += [self.key(begin, label, description) for description, _ in changes]
        payloads = [payload for _, payload in changes]
        self.edits.append((begin, end, lambda base: build(base + first, payloads)))

    def condition_changes(self, begin, end):
        text = self.text[begin:end]
        changes = [("never", "false"), ("always", "true")]
        found = operands(self.code, begin, end)
        for b, e, neutral in found:
            part = self.text[b:e].strip()
            at = b + len(self.text[b:e]) - len(self.text[b:e].lstrip())
            changes.append((f"without {one_line(part)}",
                            self.text[begin:at] + neutral + self.text[at + len(part):end]))
        for m in re.finditer(r" (<=|>=|<|>) ", self.code[begin:end]):
            other = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}[m.group(1)]
            around = [(b, e) for b, e, _ in found if b <= begin + m.start() < e]
            b, e = around[-1] if around else (begin, end)
            changes.append((f"{other} in {one_line(self.text[b:e])}",
                            text[:m.start(1)] + other + text[m.end(1):]))
        return changes + limit_changes(text)

    @staticmethod
    def choose(original, convert=""):
        def build(number, payloads):
            out = f"{convert}({original})"
            for i, payload in reversed(list(enumerate(payloads))):
                out = f"(flexq_mutation::on({number + i}) ? ({payload}) : {out})"
            return out
        return build

    def condition(self, kind, begin, end):
        begin += len(self.text[begin:end]) - len(self.text[begin:end].lstrip())
        self.edit(kind, begin, end, self.condition_changes(begin, end),
                  self.choose(self.text[begin:end], "bool"))

    def scan(self):
        code = self.code
        for m in re.finditer(r"\bif \(", code):
            end = closing(code, m.end() - 1)
            begin = top_level(code, m.end(), end, [";"])[-1][0]
            self.condition("if", begin, end)
        for m in re.finditer(r"\bFLEXQ_RETURN_IF_ERROR\(", code):
            end = closing(code, m.end() - 1) + 1
            inner = self.text[m.end():end - 1]
            self.edit("propagate", m.start(), end, [("ignored", None), *limit_changes(inner)],
                      lambda number, payloads, inner=inner:
                      "do { ::flexq::Status flexq_status_ = %s; if (!flexq_status_.ok() && "
                      "!flexq_mutation::on(%d)) return flexq_status_; } while (false)"
                      % (self.choose(inner)(number + 1, payloads[1:]), number))
        for m in re.finditer(r"\bFLEXQ_EXPECT_EQUAL\(", code):
            end = closing(code, m.end() - 1) + 1
            whole = self.text[m.start():end]
            self.edit("equal", m.start(), end, [("left out", None)],
                      lambda number, _, whole=whole:
                      "do { if (!flexq_mutation::on(%d)) %s; } while (false)" % (number, whole))
        for m in re.finditer(r"\breturn\s+([^;{}\[\]]*);", code):
            begin, end = m.span(1)
            value = m.group(1)
            if re.match(r"(?:check_|validate_|walk\.)[\w]*\(", value):
                self.edit("propagate", begin, end, [("ignored", None)],
                          lambda number, _, value=self.text[begin:end]:
                          "flexq_mutation::on(%d) ? (static_cast<void>(%s), ::flexq::Status()) : (%s)"
                          % (number, value, value))
            elif value.startswith("find_bad<"):
                self.edit("return", begin, end, [("never", "int64_t{-1}")],
                          self.choose(self.text[begin:end]))
            elif "?" not in value and re.search(
                    r" (?:<|>|<=|>=|==|!=|&&|\|\|) |isfinite\(|^status_\.ok\(\)$", value):
                self.condition("return", begin, end)
        for m in re.finditer(r"\b(?:decoder\.)?(?:text|list)\((?:[^;{}]*?), (kMax\w+),", code):
            begin, end = m.span(1)
            if any(b <= begin < e for b, e, _ in self.edits):
                continue  # inside a condition, which has it among its changes
            name = m.group(1)
            self.edit("limit", begin, end, [("one less", f"{name} - 1"), ("one more", f"{name} + 1")],
                      self.choose(name))

        for m in re.finditer(r"\bchecks\.(integer|real|multiple)\(", code):
            self.range_check(m.group(1), m.start(), m.end(), closing(code, m.end() - 1))

    def range_check(self, kind, begin, arguments_begin, end):
        """checks.integer(name, value, low, high)"""
        pieces = [self.text[b:e] for b, e in top_level(self.code, arguments_begin, end, [","])]
        steps = {"integer": (("one less", "- 1"), ("one more", "+ 1")),
                 "real": (("half", "* 0.5"), ("twice", "* 2"))}.get(kind, ())
        changes = [(f"{which} {step}", f"({one_line(pieces[i])}) {change}")
                   for i, which in ((2, "low"), (3, "high")) for step, change in steps]

        def build(number, payloads):
            arguments = list(pieces)
            for i in (2, 3) if steps else ():
                first = 1 + 2 * (i - 2)
                arguments[i] = self.choose(pieces[i])(number + first, payloads[first:first + 2])
            return "if (!flexq_mutation::on(%d)) checks.%s(%s)" % (number, kind, ",".join(arguments))

        self.edit("range", begin, end + 1, [("left out", None), *changes], build)

    def generate(self, base):
        out, at = [PRELUDE, f'#line 1 "{self.name}"\n'], 0
        for begin, end, build in sorted(self.edits, key=lambda e: e[0]):
            out += [self.text[at:begin], build(base)]
            at = end
        return "".join(out) + self.text[at:]


def all_sources():
    return [Source(path.name, path.read_text()) for path in SOURCES]


def all_keys(sources):
    return [key for source in sources for key in source.mutants]


def read_equivalent():
    """Key to reason."""
    reasons, key = {}, None
    for line in EQUIVALENT.read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line[0] != " ":
            key = line
            if key in reasons:
                raise ValueError(f"{EQUIVALENT.name}: twice: {key}")
            reasons[key] = ""
        else:
            reasons[key] = (reasons[key] + " " + line.strip()).strip()
    return reasons


def generate(directory):
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    base = 0
    for source in all_sources():
        (directory / source.name).write_text(source.generate(base))
        base += len(source.mutants)


# A source of every kind of check, and the changes that must come out of it.
SAMPLE = """\
#define CHECK_IN_A_MACRO(x) if (x) return Status::error(1)
Status check_rows(int64_t n, int64_t most) {
  // if (comment) return Status::error(kCorrupt);
  if (n < 1 || n > most - 1) return Status::error(kCorrupt, "if (n) (");
  if (const int64_t bad = find(n); bad >= 0) return bad_value(bad);
  FLEXQ_EXPECT_EQUAL(where, "rows", n, most);
  FLEXQ_RETURN_IF_ERROR(check_more(n));
  if (!(grouped && (n == 6 || n == 8))) return {};
  if (!decoder.list(n, kMaxPieces, "pieces")) return {};
  name = decoder.text(in.name(), kMaxNameBytes, "name");
  checks.integer("n_rows", n, 1, most);
  return check_rest(n);
}
bool is_small(int64_t n) { return n <= 4; }
"""
SAMPLE_CHANGES = [
    "if (n < 1 || n > most - 1): never", "if (n < 1 || n > most - 1): always",
    "if (n < 1 || n > most - 1): without n < 1", "if (n < 1 || n > most - 1): without n > most - 1",
    "if (n < 1 || n > most - 1): <= in n < 1", "if (n < 1 || n > most - 1): >= in n > most - 1",
    "if (bad >= 0): never", "if (bad >= 0): always", "if (bad >= 0): > in bad >= 0",
    "if (!(grouped && (n == 6 || n == 8))): never", "if (!(grouped && (n == 6 || n == 8))): always",
    "if (!(grouped && (n == 6 || n == 8))): without grouped",
    "if (!(grouped && (n == 6 || n == 8))): without (n == 6 || n == 8)",
    "if (!(grouped && (n == 6 || n == 8))): without n == 6",
    "if (!(grouped && (n == 6 || n == 8))): without n == 8",
    "FLEXQ_RETURN_IF_ERROR(check_more(n)): ignored",
    'FLEXQ_EXPECT_EQUAL(where, "rows", n, most): left out',
    "check_rest(n): ignored",
    'checks.integer("n_rows", n, 1, most): left out',
    'checks.integer("n_rows", n, 1, most): low one less',
    'checks.integer("n_rows", n, 1, most): low one more',
    'checks.integer("n_rows", n, 1, most): high one less',
    'checks.integer("n_rows", n, 1, most): high one more',
    "return n <= 4: never", "return n <= 4: always", "return n <= 4: < in n <= 4",
    'if (!decoder.list(n, kMaxPieces, "pieces")): never',
    'if (!decoder.list(n, kMaxPieces, "pieces")): always',
    'if (!decoder.list(n, kMaxPieces, "pieces")): kMaxPieces one less',
    'if (!decoder.list(n, kMaxPieces, "pieces")): kMaxPieces one more',
    "kMaxNameBytes: one less", "kMaxNameBytes: one more",
]


def check():
    failures = []
    sample = Source("sample.cpp", SAMPLE)
    found = [key.split(": ", 2)[2] for key in sample.mutants]
    for change in SAMPLE_CHANGES:
        if change not in found:
            failures.append(f"the sample's change is not found: {change}")
    for change in found:
        if change not in SAMPLE_CHANGES:
            failures.append(f"not a change of the sample: {change}")

    sources = all_sources()
    for source in sources:
        # Every refusal has a check in front of it, in its function.
        for m in re.finditer(r"\bStatus::error\(|\bbad_value\(\n|\bfail\(StatusCode", source.code):
            function = source.function_at(m.start())
            if function in ("corrupt", "bad_value", "fail"):
                continue  # helpers that make the status
            if not any(begin < m.start() and source.function_at(begin) == function
                       for begin, _, _ in source.edits):
                failures.append(f"{source.name}: a refusal without a check in {function}()")
        words = {"if": r"\bif \(", "equal": r"\bFLEXQ_EXPECT_EQUAL\("}
        for kind, pattern in words.items():
            n = len(re.findall(pattern, source.code))
            if n != source.sites[kind]:
                failures.append(f"{source.name}: {n} of '{kind}', {source.sites[kind]} as checks")
    keys = all_keys(sources)
    if len(set(keys)) != len(keys):
        failures.append("two mutants have the same key")
    for key, reason in read_equivalent().items():
        if key not in keys:
            failures.append(f"{EQUIVALENT.name}: no such mutant: {key}")
        if len(reason) < 20:
            failures.append(f"{EQUIVALENT.name}: no reason for: {key}")
    print(f"{sum(sum(s.sites.values()) for s in sources)} checks, {len(keys)} mutants, "
          f"{len(read_equivalent())} of them equivalent")
    print("\n".join(failures), end="\n" if failures else "")
    return 1 if failures else 0


def outcome(program, number, arguments):
    """How the tests end with this mutant: "survived", "failed", "crashed" or "hung"."""
    environment = dict(os.environ, **{VARIABLE: str(number)})
    try:
        code = subprocess.run([program, "--abort-after=1", *arguments], env=environment, timeout=TIMEOUT_S,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
    except subprocess.TimeoutExpired:
        return "hung"
    return "survived" if code == 0 else "crashed" if code < 0 else "failed"


def run(program, words):
    sources = all_sources()
    keys = all_keys(sources)
    equivalent = read_equivalent()
    chosen = [i for i, key in enumerate(keys) if not words or any(w in key for w in words)]
    if any(outcome(program, -1, arguments) != "survived" for arguments in STAGES):
        print("the tests fail without a mutant")
        return 1
    begin = time.monotonic()
    counts, survivors, needless = {}, [], []

    def judge(i):
        for arguments in STAGES[:-1] if keys[i] in equivalent else STAGES:
            found = outcome(program, i, arguments)
            if found != "survived":
                break
        return i, found

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for i, found in pool.map(judge, chosen):
            if found == "survived" and keys[i] in equivalent:
                found = "equivalent"
            elif found == "survived":
                survivors.append(keys[i])
                print(f"survived: {keys[i]}", flush=True)
            elif keys[i] in equivalent:
                needless.append(keys[i])
                print(f"listed as equivalent, but {found}: {keys[i]}", flush=True)
            counts[found] = counts.get(found, 0) + 1
    print(f"{sum(sum(s.sites.values()) for s in sources)} checks, {len(chosen)} mutants: "
          + ", ".join(f"{n} {what}" for what, n in sorted(counts.items()))
          + f"; {time.monotonic() - begin:.0f} s")
    return 1 if survivors or needless else 0


def main(arguments):
    match arguments:
        case ["list"]:
            print("\n".join(f"{i} {key}" for i, key in enumerate(all_keys(all_sources()))))
            return 0
        case ["check"]:
            return check()
        case ["generate", directory]:
            generate(directory)
            return 0
        case ["run", program, *words]:
            return run(program, words)
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
