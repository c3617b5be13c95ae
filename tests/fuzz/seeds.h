// The beginnings of the corpus: valid files of every kind, and one file for each class of bugs that
// other loaders had.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace flexq::test {

// "TARGET/NAME" -> bytes. Names begin with valid_ or refused_ where corpus_replay_test.cpp is to
// check that.
using Seeds = std::map<std::string, std::string>;

void add_bundle_seeds(Seeds& seeds);
void add_checkpoint_seeds(Seeds& seeds);
void add_session_seeds(Seeds& seeds);
void add_tokenizer_seeds(Seeds& seeds);

}  // namespace flexq::test
