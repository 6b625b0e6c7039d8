// Attention of a ragged batch over keys and values that lie in blocks: see kernel.py, which compiles this file.
//
// A query row goes through its conversation's blocks one after the other with a running softmax (Milakov and Gimelshein, arXiv 1805.02867),
// so its result depends on nothing but its own conversation: not on who shares the pass, nor on where a prompt was cut into stretches.
// Scores and sums are in fp32, whatever the format of keys and values. Plain vectors of the compiler, no processor's own intrinsics.

#include <algorithm>
#include <cmath>
#include <vector>

#include "vectors.h"

namespace {

constexpr int BLOCK = 64;  // positions a block
constexpr int ROWS = 48;   // query rows that go through the blocks together, so that a block is read once for all of them
constexpr int FEW = 6;     // rows of one tile: a block is widened as it is read, since it is read once
constexpr int LINE = 64;   // bytes that memory delivers at once
constexpr float NEVER = -1e30f;

// Vectors of columns of a tile, for many rows and for few: as many as registers hold.
#ifdef __AVX512F__
constexpr int MANY_WIDE = 4, FEW_WIDE = 4;
#else
constexpr int MANY_WIDE = 2, FEW_WIDE = 4;
#endif

// out[r][c] += sum over k of a[r][k] * b[k][c]. `columns` is a multiple of 64; rows of `b` and `out` follow each other. `next`, which is read
// soon, is asked for meanwhile, `next_row` bytes for every k: a few rows are computed faster than memory delivers.
template <typename B>
struct Product {
    const float* a;
    int64_t a_step;
    const B* b;
    float* out;
    int64_t rows, columns, depth;
    const char* next;
    int64_t next_row;

    template <int R, int V>
    void tile(int64_t row, int64_t column) const {
        const int64_t ahead = row ? 0 : next_row * V * WIDTH / columns;
        const char* soon = row ? next : next + column * next_row / columns * depth;
        const float* factors = a + row * a_step;
        float* to = out + row * columns + column;
        Vec sum[R][V];
        for (int r = 0; r < R; ++r)
            for (int v = 0; v < V; v += 2) apart<B>(to + r * columns + v * WIDTH, sum[r][v], sum[r][v + 1]);
        for (int64_t k = 0; k < depth; ++k) {
            for (int64_t byte = 0; byte < ahead; byte += LINE) __builtin_prefetch(soon + k * ahead + byte, 0, 2);
            Vec line[V];
            for (int v = 0; v < V; v += 2) load_apart(b + k * columns + column + v * WIDTH, line[v], line[v + 1]);
            for (int r = 0; r < R; ++r)
                for (int v = 0; v < V; ++v) sum[r][v] += factors[r * a_step + k] * line[v];
        }
        for (int r = 0; r < R; ++r)
            for (int v = 0; v < V; v += 2) together<B>(to + r * columns + v * WIDTH, sum[r][v], sum[r][v + 1]);
    }

    // All columns of as many rows from `row` on as fill tiles of R; the first row that is left.
    template <int R, int V>
    int64_t strip(int64_t row) const {
        for (; row + R <= rows; row += R)
            for (int64_t column = 0; column < columns; column += V * WIDTH) tile<R, V>(row, column);
        return row;
    }

    void add() const { strip<1, FEW_WIDE>(strip<3, FEW_WIDE>(strip<FEW, MANY_WIDE>(0))); }
};

// A product with a block. One in bf16 that many rows are multiplied with is widened once, into `room`.
inline void add(const Product<float>& product, float*) { product.add(); }
inline void add(const Product<bf16>& product, float* room) {
    if (product.rows <= FEW) return product.add();
    for (int64_t i = 0; i < product.depth * product.columns; i += WIDTH) store(room + i, load(product.b + i));
    const auto& p = product;
    Product<float>{p.a, p.a_step, room, p.out, p.rows, p.columns, p.depth, p.next, p.next_row}.add();
}

struct Stretch {
    int64_t token, first, count, table;  // row of its first token, that token's position, tokens, where its block numbers begin
};

template <typename T>
struct Pass {
    const T* mixed;           // [tokens][heads of queries, of keys, of values][dim]
    const float *cos, *sin;   // [tokens][dim / 2]
    T *keys, *values;         // [block][kv head][dim][BLOCK], [block][kv head][BLOCK][padded]
    T* out;                   // [tokens][heads][dim]
    const int64_t* tables;
    int64_t heads, kv_heads, dim, padded;  // `padded`: dim rounded up to whole tiles
    float scale;

    const T* head(int64_t token, int64_t which) const { return mixed + (token * (heads + 2 * kv_heads) + which) * dim; }

    // A query or key turned by its position (rotary embedding, Su et al., arXiv 2104.09864; its pairs lie half a head apart, as in Llama).
    void turn(const T* from, int64_t token, float* to) const {
        const int64_t half = dim / 2;
        const float *c = cos + token * half, *s = sin + token * half;
        for (int64_t d = 0; d < half; ++d) {
            const float x = wide(from[d]), y = wide(from[d + half]);
            to[d] = x * c[d] - y * s[d];
            to[d + half] = y * c[d] + x * s[d];
        }
    }

    void remember(const Stretch& s, int64_t i, std::vector<float>& room) const {
        room.resize(dim);
        const int64_t place = s.first + i, block = tables[s.table + place / BLOCK], offset = place % BLOCK;
        for (int64_t h = 0; h < kv_heads; ++h) {
            T* k = keys + (block * kv_heads + h) * dim * BLOCK + offset;
            T* v = values + ((block * kv_heads + h) * BLOCK + offset) * padded;
            turn(head(s.token + i, heads + h), s.token + i, room.data());
            for (int64_t d = 0; d < dim; ++d) narrow(room[d], k[d * BLOCK]);
            std::memcpy(v, head(s.token + i, heads + kv_heads + h), dim * sizeof(T));
        }
    }

    // `count` queries from the `begin`th of a stretch, of all heads that share kv head `h`.
    void look(const Stretch& s, int64_t h, int64_t begin, int64_t count, std::vector<float>& room) const {
        const int64_t group = heads / kv_heads, rows = count * group;
        room.resize(rows * (dim + padded + BLOCK + 2) + BLOCK * padded);
        float *q = room.data(), *sum = q + rows * dim, *score = sum + rows * padded, *top = score + rows * BLOCK;
        float *total = top + rows, *widened = total + rows;
        for (int64_t r = 0; r < rows; ++r) {
            const int64_t token = s.token + begin + r / group;
            turn(head(token, h * group + r % group), token, q + r * dim);
            for (int64_t d = 0; d < dim; ++d) q[r * dim + d] *= scale;
        }
        std::fill(sum, sum + rows * padded, 0.0f);
        std::fill(top, top + rows, NEVER);
        std::fill(total, total + rows, 0.0f);
        const int64_t last = s.first + begin + count - 1;
        const int64_t blocks = last / BLOCK + 1;
        for (int64_t b = 0; b < blocks; ++b) {
            const int64_t at = tables[s.table + b] * kv_heads + h, next = tables[s.table + std::min(b + 1, blocks - 1)] * kv_heads + h;
            const T *k = keys + at * dim * BLOCK, *v = values + at * BLOCK * padded;
            const char *soon = reinterpret_cast<const char*>(v), *then = reinterpret_cast<const char*>(keys + next * dim * BLOCK);
            std::fill(score, score + rows * BLOCK, 0.0f);
            add(Product<T>{q, dim, k, score, rows, BLOCK, dim, soon, padded * BLOCK / dim * int64_t(sizeof(T))}, widened);
            for (int64_t r = 0; r < rows; ++r) {
                const int64_t seen = s.first + begin + r / group - b * BLOCK + 1;  // positions of this block that the row may look at
                soften(score + r * BLOCK, seen, top[r], total[r], sum + r * padded);
            }
            const int64_t depth = std::min<int64_t>(BLOCK, last - b * BLOCK + 1);
            add(Product<T>{score, BLOCK, v, sum, rows, padded, depth, then, dim * int64_t(sizeof(T))}, widened);
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
        const float higher = std::max(top, max_of(most));
        Vec shares = {};
        for (int j = 0; j < BLOCK; j += WIDTH) {
            const Vec s = load(score + j);
            const Vec share = s <= NEVER ? Vec{} : exponential(s - higher);
            store(score + j, share);
            shares += share;
        }
        if (higher != top) {
            const float shrink = std::exp(top - higher);
            total *= shrink;
            for (int64_t d = 0; d < padded; ++d) sum[d] *= shrink;
            top = higher;
        }
        total += sum_of(shares);
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
            std::vector<float> room;
#pragma omp for schedule(static)
            for (int64_t i = 0; i < n; ++i)
                for (int64_t t = 0; t < stretches[i].count; ++t) remember(stretches[i], t, room);
#pragma omp for schedule(dynamic, 1)
            for (int64_t u = work - 1; u >= 0; --u)
                look(stretches[units[u].stretch], units[u].head, units[u].begin, units[u].count, room);
        }
    }
};

template <typename T>
void attend(const void* const* pointers, const int64_t* sizes, float scale) {
    Pass<T> pass;
    pass.mixed = static_cast<const T*>(pointers[0]);
    pass.cos = static_cast<const float*>(pointers[1]);
    pass.sin = static_cast<const float*>(pointers[2]);
    pass.keys = static_cast<T*>(const_cast<void*>(pointers[3]));
    pass.values = static_cast<T*>(const_cast<void*>(pointers[4]));
    pass.out = static_cast<T*>(const_cast<void*>(pointers[5]));
    pass.tables = static_cast<const int64_t*>(pointers[6]);
    pass.heads = sizes[0], pass.kv_heads = sizes[1], pass.dim = sizes[2], pass.padded = sizes[3];
    pass.scale = scale;
    pass.run(static_cast<const Stretch*>(pointers[7]), sizes[4]);
}

}  // namespace

extern "C" {
void attend_float32(const void* const* pointers, const int64_t* sizes, float scale) { attend<float>(pointers, sizes, scale); }
void attend_bfloat16(const void* const* pointers, const int64_t* sizes, float scale) { attend<bf16>(pointers, sizes, scale); }
}
