#include "app/importance_collector.h"

#include "core/error.h"

#include <cmath>

namespace nemo {

ImportanceCollector::Sums* ImportanceCollector::sums_of(const Weight& weight) {
    const TensorView& view = weight.view;
    const auto [position, is_new] = by_data_.try_emplace(view.data, nullptr);
    if (!is_new) return position->second;
    const bool wanted =
        view.name.starts_with("blk.") || (with_output_ && view.name == "output.weight");
    if (!wanted) return nullptr;
    Sums& sums = sums_[view.name];
    sums.squares.resize(static_cast<size_t>(weight.n_in() * view.dims[2]));
    sums.counts.resize(static_cast<size_t>(view.dims[2]));
    return position->second = &sums;
}

void ImportanceCollector::observe(const Weight& weight, int64_t matrix, const float* row) {
    Sums* sums = sums_of(weight);
    if (sums == nullptr) return;
    const int64_t n = weight.n_in();
    ++sums->counts[static_cast<size_t>(matrix)];
    double* squares = sums->squares.data() + matrix * n;
    for (int64_t i = 0; i < n; ++i) squares[i] += double{row[i]} * row[i];
}

std::map<std::string, TensorImportance, std::less<>> ImportanceCollector::tensors(
    const std::string& source) const {
    std::map<std::string, TensorImportance, std::less<>> result;
    for (const auto& [name, sums] : sums_) {
        TensorImportance& entry = result[name];
        entry.counts = sums.counts;
        entry.mean_square.assign(sums.squares.size(), 1.0f);
        const size_t n_columns = sums.squares.size() / sums.counts.size();
        for (size_t i = 0; i < sums.squares.size(); ++i) {
            const int64_t count = sums.counts[i / n_columns];
            if (count == 0) continue;
            entry.mean_square[i] = static_cast<float>(sums.squares[i] / static_cast<double>(count));
            if (!std::isfinite(entry.mean_square[i]))
                fail(ErrorCode::bad_file, "{}: an input of {} is not a number", source, name);
        }
    }
    return result;
}

}  // namespace nemo
