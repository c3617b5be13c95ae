# The --help text of a command as a manual page. The text has: a description, "Usage: ...", sections
# that begin with "Name:" alone on a line and list entries as "  --option TYPE   description" (or the
# description alone on the next line), then free text, "Examples:" with indented lines, and the shape
# of the JSON output.
#   awk -v name=flexq-run -v version=0.1.0 -f man_page.awk

# Text that roff prints as it is.
function roff(text) {
  gsub(/\\/, "\\e", text)
  gsub(/-/, "\\-", text)
  gsub(/'/, "\\(aq", text)
  gsub(/`/, "\\(ga", text)
  gsub(/\^/, "\\(ha", text)
  gsub(/~/, "\\(ti", text)
  if (text ~ /^\./) text = "\\&" text
  return text
}

function section(title) { print ".SH " toupper(title) }

function paragraph() {
  if (!in_text) print ".PP"
  in_text = 1
}

NR == 1 {
  printf ".TH %s 1 \"\" \"FlexQ %s\" \"FlexQ\"\n.nh\n.ad l\n", toupper(roff(name)), version
  section("Name")
  sub(/\.$/, "")
  print roff(name) " \\- " roff(tolower(substr($0, 1, 1)) substr($0, 2))
  next
}

/^Usage: / {
  section("Synopsis")
  print ".B " roff(substr($0, 8))
  next
}

/^Examples?:$/ {
  section("Examples")
  mode = "example"
  next
}

/^JSON: / {
  section("Output with \\-\\-json")
  mode = "text"
  in_text = 1
  print roff(substr($0, 7))
  next
}

/^(Exit codes|Help for one command): / {
  if (mode != "notes") section("Notes")
  mode = "notes"
  print ".PP"
  print roff($0)
  next
}

/^[A-Z][A-Za-z ]*:$/ {
  has_commands = $1 == "Subcommands:"
  section(has_commands ? "Commands" : substr($0, 1, length($0) - 1))
  mode = "entries"
  next
}

/^ *$/ {
  if (mode == "entries") mode = ""
  in_text = 0
  next
}

# An entry: two blanks, its name, and behind two blanks or more the description.
mode == "entries" && /^  [^ ]/ {
  print ".TP"
  entry = substr($0, 3)
  at = match(entry, /  +/)
  if (has_commands) pages = pages ",\n.BR " roff(name "-" $1) " (1)"
  print ".B " roff(at ? substr(entry, 1, at - 1) : entry)
  if (at) print roff(substr(entry, at + RLENGTH))
  next
}

mode == "entries" {
  sub(/^ +/, "")
  print roff($0)
  next
}

mode == "example" && /^  / {
  print ".PP"
  print ".nf"
  print roff(substr($0, 3))
  print ".fi"
  next
}

{
  if (mode == "") section("Description")
  if (mode == "" || mode == "example") mode = "text"
  paragraph()
  sub(/^ +/, "")
  print roff($0)
}

END {
  section("See also")
  parent = name
  sub(/-[^-]*$/, "", parent)
  if (parent != name) pages = ",\n.BR " roff(parent) " (1)" pages
  print substr(pages, 3) "."
  print "The manual of the library is the header flexq.h."
}
