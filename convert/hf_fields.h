// Typed access to the fields of a config.json that come in several spellings. null counts as
// absent; two spellings of one field that disagree are refused. Errors are Error{bad_file} naming
// the file, the field and its value.
//
// Each architecture reads its fields in a file of its own (hf_nemotron_h.cpp, ...); hf_config.cpp
// lists them.
#pragma once

#include "core/json.h"
#include "models/config.h"

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>

namespace nemo {

class HfFields {
public:
    using Spellings = std::initializer_list<const char*>;

    HfFields(const Json& object, std::string source)
        : object_(object), source_(std::move(source)) {}

    // What holds for one block: its own fields, and the model's where it has none.
    HfFields(const Json& block, std::string source, const HfFields& model)
        : object_(block), source_(std::move(source)), model_(&model) {}

    const std::string& source() const { return source_; }

    // The value under the first spelling that is present, nullptr if none is.
    const Json* find(Spellings spellings) const;

    // From 0 to 2147483647. Without fallback the field must be there.
    int64_t integer(Spellings spellings, std::optional<int64_t> fallback = {}) const;
    int64_t integer_value(const Json& value, const char* key) const;
    double real(Spellings spellings, double fallback) const;
    bool flag(Spellings spellings, bool fallback) const;

    // If the field is there, it must be this text.
    void require_text(const char* key, const char* wanted) const;
    // If a flag of these is there, it must be false.
    void refuse_biases(Spellings keys) const;

    [[noreturn]] void wrong(const char* key, const Json& value, const char* wanted) const;

private:
    const Json* find_own(Spellings spellings) const;

    const Json& object_;
    std::string source_;
    const HfFields* model_ = nullptr;
};

// What an architecture has to say beyond the fields that all have (names, vocabulary, hidden size,
// context, tied embeddings): its norms and its layers.
void read_hf_nemotron_h(const HfFields& fields, ModelConfig& config);
void read_hf_nemotron(const HfFields& fields, ModelConfig& config);

// After the above: a multi-token prediction head, if there is one.
void read_hf_nemotron_h_prediction(const HfFields& fields, ModelConfig& config);

}  // namespace nemo
