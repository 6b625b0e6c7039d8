// What a decoder's layer does between matrix products, each in one go over memory: see kernel.py, which compiles this file. Rows are independent
// of each other; sums are in fp32, and results are rounded once.

#include <algorithm>
#include <cmath>

#include "vectors.h"

namespace {

// A row's vectors one after the other; a last one that is not whole is brought into `room` and back.
template <typename T, typename Step>
void through(int64_t width, const T* in, const T* in_too, T* out, Step step) {
    int64_t i = 0;
    for (; i + WIDTH <= width; i += WIDTH) store(out + i, step(load(in + i), load(in_too + i)));
    if (i == width) return;
    T room[3][WIDTH] = {};
    std::copy(in + i, in + width, room[0]);
    std::copy(in_too + i, in_too + width, room[1]);
    store(room[2], step(load(room[0]), load(room[1])));
    std::copy(room[2], room[2] + (width - i), out + i);
}

template <typename T>
float mean_square(const T* row, int64_t width) {
    Vec squares = {};
    int64_t i = 0;
    for (; i + WIDTH <= width; i += WIDTH) {
        const Vec x = load(row + i);
        squares += x * x;
    }
    float sum = sum_of(squares);
    for (; i < width; ++i) sum += wide(row[i]) * wide(row[i]);
    return sum / float(width);
}

template <typename T>
void norm(const T* in, const T* weight, T* out, int64_t rows, int64_t width, float epsilon) {
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; ++r) {
        const T* row = in + r * width;
        const float scale = 1.0f / std::sqrt(mean_square(row, width) + epsilon);
        through(width, row, weight, out + r * width, [scale](Vec x, Vec w) { return x * scale * w; });
    }
}

// x / (1 + e^-x), by an exponential that takes no positive number.
inline Vec silu(Vec x) {
    const Vec small = exponential(x > 0.0f ? -x : x);
    return x * (x > 0.0f ? Vec{} + 1.0f : small) / (1.0f + small);
}

template <typename T>
void gate(const T* in, T* out, int64_t rows, int64_t width) {
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; ++r) {
        const T* row = in + r * 2 * width;
        through(width, row, row + width, out + r * width, [](Vec gated, Vec up) { return silu(gated) * up; });
    }
}

}  // namespace

extern "C" {
void norm_float32(const float* in, const float* weight, float* out, int64_t rows, int64_t width, float epsilon) {
    norm(in, weight, out, rows, width, epsilon);
}
void norm_bfloat16(const bf16* in, const bf16* weight, bf16* out, int64_t rows, int64_t width, float epsilon) {
    norm(in, weight, out, rows, width, epsilon);
}
void gate_float32(const float* in, float* out, int64_t rows, int64_t width) { gate(in, out, rows, width); }
void gate_bfloat16(const bf16* in, bf16* out, int64_t rows, int64_t width) { gate(in, out, rows, width); }
}
