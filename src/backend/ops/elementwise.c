/* What operations of elementwise operations and of tables demand and cost, and their functions. */
#include "backend/ops/op_functions.h"

static struct op_cost check_axpby(const struct backend *be, const struct tensor *y, double a,
                                  const struct tensor *x, double b)
{
    (void)a;
    check_real(be, y);
    check_count(be, x, tensor_count(y));
    return bytes_only((b != 0 ? 3 : 2) * bytes_of(y));
}

static struct op_cost check_mul_bcast(const struct backend *be, const struct tensor *out,
                                      const struct tensor *x, const struct tensor *mask)
{
    check_count(be, out, tensor_count(x));
    check_real(be, mask);
    assert(x->ndim == 3 && mask->ndim == 3);
    for (int i = 0; i < 3; i++)
        assert(mask->dim[i] == 1 || mask->dim[i] == x->dim[i]);
    return bytes_only(bytes_of(x) + bytes_of(out) + bytes_of(mask));
}

static struct op_cost check_col_sum(const struct backend *be, const struct tensor *acc,
                                    const struct tensor *x)
{
    assert(x->ndim == 2);
    check_low_precision(be, x);
    check_count(be, acc, x->dim[1]);
    return bytes_only(bytes_of(x) + bytes_of(acc));
}

static struct op_cost check_col_dot(const struct backend *be, const struct tensor *acc,
                                    const struct tensor *x, const struct tensor *y)
{
    assert(x->ndim == 2);
    check_real(be, x);
    check_count(be, y, tensor_count(x));
    check_count(be, acc, x->dim[1]);
    return bytes_only(2 * bytes_of(x) + bytes_of(acc));
}

/* Rows of a table that idx picks, and the same rows one behind the other. */
static void check_table(const struct backend *be, const struct tensor *table,
                        const struct tensor *rows, const struct tensor *idx)
{
    assert(rows->ndim == 2 && table->ndim == 2 && rows->dim[1] == table->dim[1]);
    check_real(be, rows);
    check_real(be, table);
    check_index(idx, rows->dim[0]);
}

static struct op_cost check_gather_rows(const struct backend *be, const struct tensor *out,
                                        const struct tensor *table, const struct tensor *idx,
                                        double scale)
{
    (void)scale;
    check_table(be, table, out, idx);
    return bytes_only(2 * bytes_of(out));
}

static struct op_cost check_scatter_add_rows(const struct backend *be, const struct tensor *table,
                                             const struct tensor *x, const struct tensor *idx,
                                             double scale)
{
    (void)scale;
    check_table(be, table, x, idx);
    return bytes_only(3 * bytes_of(x));
}

static struct op_cost check_scatter_rows(const struct backend *be, const struct tensor *table,
                                         const struct tensor *x, const struct tensor *idx)
{
    check_table(be, table, x, idx);
    return bytes_only(2 * bytes_of(x));
}

ELEMENTWISE_OPS(DEFINE_OP)
