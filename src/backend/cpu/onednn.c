/* The two major versions of oneDNN. In version 2 the description of a matrix and that of an
 * operation are structs. In version 3 the former is an object of the library, and the latter does
 * not exist. Memory keeps its description in both, so that no other file needs to know. */
#include "backend/cpu/onednn.h"

#if DNNL_VERSION_MAJOR == 2

dnnl_status_t onednn_matrix(dnnl_memory_t *out, dnnl_engine_t engine, const dnnl_dims_t dims,
                            const dnnl_dims_t strides, dnnl_data_type_t type)
{
    dnnl_memory_desc_t desc;
    dnnl_status_t bad = dnnl_memory_desc_init_by_strides(&desc, 2, dims, type, strides);
    if (bad == dnnl_success)
        bad = dnnl_memory_create(out, &desc, engine, DNNL_MEMORY_NONE);
    return bad;
}

dnnl_status_t onednn_matmul(dnnl_primitive_desc_t *out, dnnl_engine_t engine, dnnl_memory_t a,
                            dnnl_memory_t b, dnnl_memory_t c, dnnl_primitive_attr_t attr)
{
    const dnnl_memory_desc_t *of_a, *of_b, *of_c;
    dnnl_matmul_desc_t desc;
    dnnl_status_t bad;
    (void)((bad = dnnl_memory_get_memory_desc(a, &of_a)) ||
           (bad = dnnl_memory_get_memory_desc(b, &of_b)) ||
           (bad = dnnl_memory_get_memory_desc(c, &of_c)) ||
           (bad = dnnl_matmul_desc_init(&desc, of_a, of_b, NULL, of_c)) ||
           (bad = dnnl_primitive_desc_create(out, &desc, attr, engine, NULL)));
    return bad;
}

dnnl_status_t onednn_scale(dnnl_post_ops_t post, float alpha, float beta)
{
    dnnl_status_t bad = dnnl_success;
    if (alpha != 1)
        bad = dnnl_post_ops_append_eltwise(post, 1, dnnl_eltwise_linear, alpha, 0);
    if (bad == dnnl_success && beta != 0)
        bad = dnnl_post_ops_append_sum(post, beta);
    return bad;
}

#else

dnnl_status_t onednn_matrix(dnnl_memory_t *out, dnnl_engine_t engine, const dnnl_dims_t dims,
                            const dnnl_dims_t strides, dnnl_data_type_t type)
{
    dnnl_memory_desc_t desc = NULL;
    dnnl_status_t bad = dnnl_memory_desc_create_with_strides(&desc, 2, dims, type, strides);
    if (bad == dnnl_success)
        bad = dnnl_memory_create(out, desc, engine, DNNL_MEMORY_NONE);
    dnnl_memory_desc_destroy(desc);
    return bad;
}

dnnl_status_t onednn_matmul(dnnl_primitive_desc_t *out, dnnl_engine_t engine, dnnl_memory_t a,
                            dnnl_memory_t b, dnnl_memory_t c, dnnl_primitive_attr_t attr)
{
    const_dnnl_memory_desc_t of_a, of_b, of_c;
    dnnl_status_t bad;
    (void)((bad = dnnl_memory_get_memory_desc(a, &of_a)) ||
           (bad = dnnl_memory_get_memory_desc(b, &of_b)) ||
           (bad = dnnl_memory_get_memory_desc(c, &of_c)) ||
           (bad = dnnl_matmul_primitive_desc_create(out, engine, of_a, of_b, NULL, of_c, attr)));
    return bad;
}

dnnl_status_t onednn_scale(dnnl_post_ops_t post, float alpha, float beta)
{
    dnnl_status_t bad = dnnl_success;
    if (alpha != 1)
        bad = dnnl_post_ops_append_eltwise(post, dnnl_eltwise_linear, alpha, 0);
    if (bad == dnnl_success && beta != 0)
        bad = dnnl_post_ops_append_sum(post, beta, 0, dnnl_data_type_undef);
    return bad;
}

#endif
