// Vectors of fp32 that the compiler maps to the processor's, and the two number formats that they are read from and written to.

#pragma once

#include <cstdint>
#include <cstring>

#ifdef __AVX512F__
constexpr int WIDTH = 16;
#else
constexpr int WIDTH = 8;
#endif
typedef float Vec __attribute__((vector_size(WIDTH * 4)));
typedef int32_t Ints __attribute__((vector_size(WIDTH * 4)));
typedef uint16_t Halves __attribute__((vector_size(WIDTH * 2)));

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
inline Vec load(const bf16* p) {
    Halves halves;
    std::memcpy(&halves, p, sizeof halves);
    const Ints bits = __builtin_convertvector(halves, Ints) << 16;
    Vec v;
    std::memcpy(&v, &bits, sizeof v);
    return v;
}

inline void store(float* p, Vec v) { std::memcpy(p, &v, sizeof v); }
inline void store(bf16* p, Vec v) {
    Ints bits;
    std::memcpy(&bits, &v, sizeof bits);
    const Halves halves = __builtin_convertvector((bits + 0x7fff + ((bits >> 16) & 1)) >> 16, Halves);
    std::memcpy(p, &halves, sizeof halves);
}

// Two vectors' worth of numbers as they are cheapest to widen: bf16 in even and in odd places, a mask or shift each; fp32 as they lie.
inline void load_apart(const float* p, Vec& first, Vec& second) { first = load(p), second = load(p + WIDTH); }
inline void load_apart(const bf16* p, Vec& even, Vec& odd) {
    Ints pairs;
    std::memcpy(&pairs, p, sizeof pairs);
    const Ints low = pairs << 16, high = pairs & int32_t(0xffff0000);
    std::memcpy(&even, &low, sizeof low);
    std::memcpy(&odd, &high, sizeof high);
}

// Numbers in fp32 in the order that `load_apart` gives those of B, and back.
template <typename B>
inline void apart(const float* p, Vec& first, Vec& second) {
    first = load(p), second = load(p + WIDTH);
    if constexpr (sizeof(B) == 4) return;
    Ints even, odd;
    for (int i = 0; i < WIDTH; ++i) even[i] = 2 * i, odd[i] = 2 * i + 1;
    const Vec left = first, right = second;
    first = __builtin_shuffle(left, right, even), second = __builtin_shuffle(left, right, odd);
}
template <typename B>
inline void together(float* p, Vec first, Vec second) {
    if constexpr (sizeof(B) == 2) {
        Ints low, high;
        for (int i = 0; i < WIDTH; ++i) low[i] = i / 2 + i % 2 * WIDTH, high[i] = low[i] + WIDTH / 2;
        const Vec even = first, odd = second;
        first = __builtin_shuffle(even, odd, low), second = __builtin_shuffle(even, odd, high);
    }
    store(p, first), store(p + WIDTH, second);
}

// The largest number, and the sum, of a vector: halves upon each other until one is left.
template <int STEP>
inline Vec swapped(Vec v) {
    Ints from;
    for (int i = 0; i < WIDTH; ++i) from[i] = i ^ STEP;
    return __builtin_shuffle(v, from);
}
template <int STEP = WIDTH / 2>
inline float max_of(Vec v) {
    const Vec other = swapped<STEP>(v), most = v > other ? v : other;
    if constexpr (STEP == 1) return most[0];
    else return max_of<STEP / 2>(most);
}
template <int STEP = WIDTH / 2>
inline float sum_of(Vec v) {
    const Vec sum = v + swapped<STEP>(v);
    if constexpr (STEP == 1) return sum[0];
    else return sum_of<STEP / 2>(sum);
}

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
