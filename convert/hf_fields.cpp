#include "convert/hf_fields.h"

#include "core/error.h"

#include <limits>

namespace nemo {

namespace {

constexpr int64_t kMaxInteger = std::numeric_limits<int32_t>::max();

}  // namespace

const Json* HfFields::find(Spellings spellings) const {
    const Json* own = find_own(spellings);
    return own != nullptr || model_ == nullptr ? own : model_->find(spellings);
}

const Json* HfFields::find_own(Spellings spellings) const {
    const Json* found = nullptr;
    const char* found_key = nullptr;
    for (const char* key : spellings) {
        const Json* value = object_.find(key);
        if (value == nullptr || value->is_null()) continue;
        if (found != nullptr && !(*found == *value)) {
            fail(ErrorCode::bad_file, "{}: {} is {}, but {} is {}", source_, found_key,
                 to_json_text(*found), key, to_json_text(*value));
        }
        if (found == nullptr) {
            found = value;
            found_key = key;
        }
    }
    return found;
}

int64_t HfFields::integer(Spellings spellings, std::optional<int64_t> fallback) const {
    const Json* value = find(spellings);
    if (value != nullptr) return integer_value(*value, *spellings.begin());
    if (!fallback) fail(ErrorCode::bad_file, "{}: {} is missing", source_, *spellings.begin());
    return *fallback;
}

int64_t HfFields::integer_value(const Json& value, const char* key) const {
    if (!value.is_integer() || value.integer() < 0 || value.integer() > kMaxInteger) {
        wrong(key, value, "an integer from 0 to 2147483647");
    }
    return value.integer();
}

double HfFields::real(Spellings spellings, double fallback) const {
    const Json* value = find(spellings);
    if (value == nullptr) return fallback;
    if (!value->is_number()) wrong(*spellings.begin(), *value, "a number");
    return value->number();
}

bool HfFields::flag(Spellings spellings, bool fallback) const {
    const Json* value = find(spellings);
    if (value == nullptr) return fallback;
    if (!value->is_bool()) wrong(*spellings.begin(), *value, "true or false");
    return value->boolean();
}

void HfFields::require_text(const char* key, const char* wanted) const {
    const Json* value = find({key});
    if (value != nullptr && !(*value == Json(wanted))) {
        fail(ErrorCode::bad_file, "{}: {} is {}; only \"{}\" is supported", source_, key,
             to_json_text(*value), wanted);
    }
}

void HfFields::refuse_biases(Spellings keys) const {
    for (const char* key : keys) {
        if (flag({key}, false)) {
            fail(ErrorCode::bad_file, "{}: {} is true; biases of linear layers are not supported",
                 source_, key);
        }
    }
}

void HfFields::wrong(const char* key, const Json& value, const char* wanted) const {
    fail(ErrorCode::bad_file, "{}: {} is {}, expected {}", source_, key, to_json_text(value),
         wanted);
}

}  // namespace nemo
