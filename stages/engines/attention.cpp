// Attention of a ragged batch over keys and values that lie in blocks: see kernel.py, which compiles this file and calls `attend`.
//
// A query row goes through its conversation's blocks one after the other with a running softmax (Milakov and Gimelshein, arXiv 1805.02867),
// so its result depends on nothing but its own conversation: not on who shares the pass, nor on where a prompt was cut into stretches.
// Scores and sums are in fp32, whatever the format of keys and values. Plain vectors of the compiler, no processor's own intrinsics.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

constexpr int BLOCK = 64;  // positions a block
constexpr int ROWS = 48;   // query rows that go through the blocks together, so that a block is read once for all of them
constexpr int LINE = 64;   // bytes that memory delivers at once
constexpr float NEVER = -1e30f;

#ifdef __AVX512F__
constexpr int WIDTH = 16;
#else
constexpr int WIDTH = 8;
#endif
typedef float Vec __attribute__((vector_size(WIDTH * 4)));
typedef int32_t Ints __attribute__((vector_size(WIDTH * 4)));

struct bf16 {
    uint16_t bits;
};

inline float wide(float x) { return x; }
inline float wide(bf16 x) {
    uint32_t bits = uint32_t(x.bits) << 16;
    float out;
    std::memcpy(&out, &bits, 4);
    return out;
}

inline void narrow(float x, float& out) { out = x; }
inline void narrow(float x, bf16& out) {  // round to nearest, ties to even
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    out.bits = uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

inline Vec load(const float* p) {
    Vec v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
inline void store(float* p, Vec v) { std::memcpy(p, &v, sizeof v); }

// e^x for x <= 0, to 2 units in the last place: 2^n times a polynomial of the rest (Cephes' expf).
inline Vec exponential(Vec x) {
    x = x < -87.0f ? Vec{} - 87.0f : x;
    const Vec magic = Vec{} + 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number
    const Vec n = (x * 1.44269504f + magic) - magic;
    const Vec r = x - n * 0.693359375f + n * 2.12194440e-4f;
    Vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const Ints exponent = (__builtin_convertvector(n, Ints) + 127) << 23;
    Vec power;
    std::memcpy(&power, &exponent, sizeof power);
    return p * power;
}

// out[r][c] += sum over k of a[r][k] * b[k][c], for R rows and two vectors of columns. Meanwhile asks for what is read soon, `AHEAD` bytes for
// every k: a few rows are computed faster than memory delivers, and no processor foresees the order in which tiles read.
template <int R, int AHEAD>
inline void tile(const float* a, int a_step, const float* b, int b_step, float* out, int out_step, int depth, const char* ahead) {
    Vec sum[R][2];
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < 2; ++v) sum[r][v] = load(out + r * out_step + v * WIDTH);
    for (int k = 0; k < depth; ++k) {
        for (int byte = 0; byte < AHEAD; byte += LINE) __builtin_prefetch(ahead + k * AHEAD + byte);
        const Vec left = load(b + k * b_step), right = load(b + k * b_step + WIDTH);
        for (int r = 0; r < R; ++r) {
            const float factor = a[r * a_step + k];
            sum[r][0] += factor * left;
            sum[r][1] += factor * right;
        }
    }
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < 2; ++v) store(out + r * out_step + v * WIDTH, sum[r][v]);
}

// The same for any number of rows; `columns` is a multiple of 2 * WIDTH. `next` is as large as `b`, in the format of T.
template <typename T>
void multiply(const float* a, int a_step, const float* b, int columns, float* out, int rows, int depth, const T* next) {
    constexpr int AHEAD = 2 * WIDTH * int(sizeof(T));
    const char* ahead = reinterpret_cast<const char*>(next);
    for (int c = 0; c < columns; c += 2 * WIDTH, ahead += depth * AHEAD) {
        int r = 0;
        for (; r + 6 <= rows; r += 6) tile<6, AHEAD>(a + r * a_step, a_step, b + c, columns, out + r * columns + c, columns, depth, ahead);
        for (; r + 3 <= rows; r += 3) tile<3, AHEAD>(a + r * a_step, a_step, b + c, columns, out + r * columns + c, columns, depth, ahead);
        for (; r < rows; ++r) tile<1, AHEAD>(a + r * a_step, a_step, b + c, columns, out + r * columns + c, columns, depth, ahead);
    }
}

// A block's numbers in fp32: as they lie, or widened into `room`.
inline const float* as_floats(const float* p, int, float*) { return p; }
inline const float* as_floats(const bf16* p, int n, float* room) {
    for (int i = 0; i < n; ++i) room[i] = wide(p[i]);
    return room;
}

struct Stretch {
    int64_t token, first, count, table;  // row of its first token, that token's position, tokens, where its block numbers begin
};

template <typename T>
struct Pass {
    const T *query, *key, *value;  // [heads or kv heads][tokens][dim], by steps
    int64_t query_steps[2], key_steps[2], value_steps[2];  // of heads, of tokens
    T *keys, *values;  // [block][kv head][dim][BLOCK], [block][kv head][BLOCK][padded]
    T* out;            // [tokens][heads][dim]
    int64_t heads, kv_heads, dim, padded;  // `padded`: dim rounded up to whole tiles
    float scale;
    const int64_t* tables;

    void remember(const Stretch& s, int64_t i) const {
        const int64_t place = s.first + i, block = tables[s.table + place / BLOCK], offset = place % BLOCK;
        for (int64_t h = 0; h < kv_heads; ++h) {
            T* k = keys + (block * kv_heads + h) * dim * BLOCK + offset;
            T* v = values + ((block * kv_heads + h) * BLOCK + offset) * padded;
            const T* from = key + h * key_steps[0] + (s.token + i) * key_steps[1];
            for (int64_t d = 0; d < dim; ++d) k[d * BLOCK] = from[d];
            std::memcpy(v, value + h * value_steps[0] + (s.token + i) * value_steps[1], dim * sizeof(T));
        }
    }

    // `count` queries from the `begin`th of a stretch, of all heads that share kv head `h`.
    void look(const Stretch& s, int64_t h, int64_t begin, int64_t count, std::vector<float>& room) const {
        const int64_t group = heads / kv_heads, rows = count * group;
        room.resize(rows * (dim + padded + BLOCK + 2) + BLOCK * (dim + padded));
        float *q = room.data(), *sum = q + rows * dim, *score = sum + rows * padded, *top = score + rows * BLOCK;
        float *total = top + rows, *wide_keys = total + rows, *wide_values = wide_keys + BLOCK * dim;
        for (int64_t r = 0; r < rows; ++r) {
            const T* from = query + (h * group + r % group) * query_steps[0] + (s.token + begin + r / group) * query_steps[1];
            for (int64_t d = 0; d < dim; ++d) q[r * dim + d] = wide(from[d]) * scale;
        }
        std::fill(sum, sum + rows * padded, 0.0f);
        std::fill(top, top + rows, NEVER);
        std::fill(total, total + rows, 0.0f);
        const int64_t last = s.first + begin + count - 1;
        const int64_t blocks = last / BLOCK + 1;
        for (int64_t b = 0; b < blocks; ++b) {
            const int64_t at = tables[s.table + b] * kv_heads + h, next = tables[s.table + std::min(b + 1, blocks - 1)] * kv_heads + h;
            const float* k = as_floats(keys + at * dim * BLOCK, dim * BLOCK, wide_keys);
            const float* v = as_floats(values + at * BLOCK * padded, BLOCK * padded, wide_values);
            std::fill(score, score + rows * BLOCK, 0.0f);
            multiply(q, dim, k, BLOCK, score, rows, dim, values + at * BLOCK * padded);
            for (int64_t r = 0; r < rows; ++r) {
                const int64_t seen = s.first + begin + r / group - b * BLOCK + 1;  // positions of this block that the row may look at
                soften(score + r * BLOCK, seen, top[r], total[r], sum + r * padded);
            }
            multiply(score, BLOCK, v, padded, sum, rows, std::min<int64_t>(BLOCK, last - b * BLOCK + 1), keys + next * dim * BLOCK);
        }
        for (int64_t r = 0; r < rows; ++r) {
            T* to = out + ((s.token + begin + r / group) * heads + h * group + r % group) * dim;
            for (int64_t d = 0; d < dim; ++d) narrow(sum[r * padded + d] / total[r], to[d]);
        }
    }

    // Scores become shares under the highest score so far; what was summed under a lower one is scaled down.
    void soften(float* score, int64_t seen, float& top, float& total, float* sum) const {
        for (int64_t j = std::max<int64_t>(seen, 0); j < BLOCK; ++j) score[j] = NEVER;
        Vec most = load(score);
        for (int j = WIDTH; j < BLOCK; j += WIDTH) {
            const Vec s = load(score + j);
            most = most > s ? most : s;
        }
        float higher = top;
        for (int i = 0; i < WIDTH; ++i) higher = std::max(higher, most[i]);
        Vec shares = {};
        for (int j = 0; j < BLOCK; j += WIDTH) {
            const Vec s = load(score + j);
            const Vec share = s <= NEVER ? Vec{} : exponential(s - higher);
            store(score + j, share);
            shares += share;
        }
        const float shrink = std::exp(top - higher);
        total *= shrink;
        for (int i = 0; i < WIDTH; ++i) total += shares[i];
        if (shrink != 1.0f)
            for (int64_t d = 0; d < padded; ++d) sum[d] *= shrink;
        top = higher;
    }

    void run(const Stretch* stretches, int64_t n) const {
        struct Unit {
            int64_t stretch, head, begin, count;
        };
        const int64_t chunk = std::max<int64_t>(1, ROWS / (heads / kv_heads));
        std::vector<Unit> units;
        for (int64_t i = 0; i < n; ++i)
            for (int64_t begin = 0; begin < stretches[i].count; begin += chunk)
                for (int64_t h = 0; h < kv_heads; ++h)
                    units.push_back({i, h, begin, std::min(chunk, stretches[i].count - begin)});
        const int64_t work = int64_t(units.size());
#pragma omp parallel
        {
#pragma omp for schedule(static)
            for (int64_t i = 0; i < n; ++i)
                for (int64_t t = 0; t < stretches[i].count; ++t) remember(stretches[i], t);
            std::vector<float> room;
#pragma omp for schedule(dynamic, 1)
            for (int64_t u = work - 1; u >= 0; --u)
                look(stretches[units[u].stretch], units[u].head, units[u].begin, units[u].count, room);
        }
    }
};

template <typename T>
void attend(const void* const* pointers, const int64_t* sizes, float scale) {
    Pass<T> pass;
    pass.query = static_cast<const T*>(pointers[0]);
    pass.key = static_cast<const T*>(pointers[1]);
    pass.value = static_cast<const T*>(pointers[2]);
    pass.keys = static_cast<T*>(const_cast<void*>(pointers[3]));
    pass.values = static_cast<T*>(const_cast<void*>(pointers[4]));
    pass.out = static_cast<T*>(const_cast<void*>(pointers[5]));
    pass.tables = static_cast<const int64_t*>(pointers[6]);
    pass.heads = sizes[0], pass.kv_heads = sizes[1], pass.dim = sizes[2], pass.padded = sizes[3];
    std::copy(sizes + 5, sizes + 7, pass.query_steps);
    std::copy(sizes + 7, sizes + 9, pass.key_steps);
    std::copy(sizes + 9, sizes + 11, pass.value_steps);
    pass.scale = scale;
    pass.run(static_cast<const Stretch*>(pointers[7]), sizes[4]);
}

}  // namespace

extern "C" void attend_float32(const void* const* pointers, const int64_t* sizes, float scale) { attend<float>(pointers, sizes, scale); }
extern "C" void attend_bfloat16(const void* const* pointers, const int64_t* sizes, float scale) { attend<bf16>(pointers, sizes, scale); }
