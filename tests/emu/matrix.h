/* The warp's matrix instructions and copies into shared memory that go on beside the arithmetic, as
 * cuda/mma.h uses them. Included by emu/device.h.
 *
 * Fragments lie over the lanes as the PTX ISA says (mma.m16n8k16 for bf16, ldmatrix), and every
 * lane gets what the documented layout gives it and nothing else. So a kernel that takes a wrong
 * lane, register or row computes wrong numbers. Shared memory is read and written here, by the lane
 * that names the address, and so ThreadSanitizer sees it. */
#ifndef DEQ_TESTS_EMU_MATRIX_H
#define DEQ_TESTS_EMU_MATRIX_H

/* ---- Fragments ------------------------------------------------------------------------------- */
/* The lower (0) or upper (1) bf16 of a register, exactly. */
static inline float emu_half(uint32_t pair, int which)
{
    return emu_bits<float>(which == 0 ? pair << 16 : pair & 0xffff0000u);
}

/* The nearest float32 towards zero. */
static inline float emu_cut(double x)
{
    float y = static_cast<float>(x);
    if (fabs(static_cast<double>(y)) > fabs(x) && isfinite(y))
        y = nextafterf(y, 0.0f);
    return y;
}

/* To be called by every lane. */
void emu_count_matrix_product();

/* d = a b + d for a 16 x 16 matrix a, a 16 x 8 matrix b and a 16 x 8 matrix d. With g = lane / 4
 * and q = lane % 4, a lane holds of each a   a[0] row g, columns 2q and 2q + 1, a[1] row g + 8,
 * a[2] and a[3] the same 8 columns further b   b[0] rows 2q and 2q + 1 of column g, b[1] the same 8
 * rows further d   d[0] and d[1] row g, columns 2q and 2q + 1, d[2] and d[3] row g + 8 NVIDIA does
 * not say how the sum is rounded. Measured devices cut it off (Fasi et al. 2021), which is the
 * worse case, and so that is done here, once for the 16 products and d. */
static inline void emu_mma(emu_site site, float d[4], const uint32_t a[4], const uint32_t b[2])
{
    uint64_t words[EMU_WORDS];
    emu_count_matrix_product();
    memcpy(words, a, 4 * sizeof *a);
    memcpy(words + 2, b, 2 * sizeof *b);
    emu_warp w = emu_warp_exchange(site, 0xffffffffu, words, 3);
    int g = w.lane / 4, q = w.lane % 4;
    double sum[4] = {d[0], d[1], d[2], d[3]};
    for (int k = 0; k < 16; k += 2) {
        int part = k / 8, column = k % 8 / 2; /* the lane of four that holds k and k + 1 */
        uint32_t rows[2], columns[2];
        uint64_t word = w.word[32 * part + 4 * g + column];
        rows[0] = static_cast<uint32_t>(word);
        rows[1] = static_cast<uint32_t>(word >> 32);
        for (int n = 0; n < 2; n++)
            columns[n] = static_cast<uint32_t>(w.word[64 + 4 * (2 * q + n) + column] >> 32 * part);
        for (int r = 0; r < 2; r++)
            for (int n = 0; n < 2; n++)
                for (int i = 0; i < 2; i++)
                    sum[2 * r + n] += static_cast<double>(emu_half(rows[r], i)) *
                                      static_cast<double>(emu_half(columns[n], i));
    }
    for (int k = 0; k < 4; k++)
        d[k] = emu_cut(sum[k]);
}

/* Four matrices of 8 x 8 numbers of 16 bits. Lane i names row i % 8 of matrix i / 8, 16 bytes. Of
 * matrix k a lane gets columns 2q and 2q + 1 of row g, or of the transposed matrix. */
static inline void emu_ldmatrix(emu_site site, uint32_t to[4], const void *row, bool transposed)
{
    uint64_t words[2];
    emu_check_aligned(row, 16);
    memcpy(words, row, sizeof words);
    emu_warp w = emu_warp_exchange(site, 0xffffffffu, words, 2);
    int g = w.lane / 4, q = w.lane % 4;
    auto number = [&](int matrix, int r, int c) {
        return static_cast<uint32_t>(w.word[32 * (c / 4) + 8 * matrix + r] >> 16 * (c % 4)) &
               0xffffu;
    };
    for (int k = 0; k < 4; k++) {
        uint32_t low = transposed ? number(k, 2 * q, g) : number(k, g, 2 * q);
        uint32_t high = transposed ? number(k, 2 * q + 1, g) : number(k, g, 2 * q + 1);
        to[k] = low | high << 16;
    }
}

/* ---- Copies beside the arithmetic ------------------------------------------------------------ */
struct emu_copy {
    void *to;
    const void *from; /* NULL for zeros */
};

/* Notes a copy of this thread, or says that it is to be made now. Ends a group. Gives out the next
 * copy of all groups but the latest `most_groups`, false if there is none. */
bool emu_copy_later(const emu_copy &copy);
void emu_copy_commit();
bool emu_copy_due(int most_groups, emu_copy *copy);

/* By words, so that ThreadSanitizer sees each. */
static inline void emu_copy_now(const emu_copy &copy)
{
    uint64_t words[2] = {0, 0};
    if (copy.from != NULL)
        memcpy(words, copy.from, sizeof words);
    memcpy(copy.to, words, sizeof words);
}

/* 16 bytes of global memory into shared memory, or 16 bytes of zeros. */
static inline void emu_copy_async(void *to, const void *from, bool valid)
{
    emu_check_aligned(to, 16);
    if (valid)
        emu_check_aligned(from, 16);
    emu_copy copy = {to, valid ? from : NULL};
    if (!emu_copy_later(copy))
        emu_copy_now(copy);
}

static inline void emu_copy_wait(int most_groups)
{
    emu_copy copy;
    while (emu_copy_due(most_groups, &copy))
        emu_copy_now(copy);
}

#endif
