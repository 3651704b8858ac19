/* What oneDNN 2 and 3 call differently of a matmul. */
#ifndef DEQ_BACKEND_CPU_ONEDNN_H
#define DEQ_BACKEND_CPU_ONEDNN_H

#include <oneapi/dnnl/dnnl.h>

/* Memory, without data yet, for a matrix; strides: between its rows, between its columns. *out is
 * the caller's (dnnl_memory_destroy), untouched by a failure. */
dnnl_status_t onednn_matrix(dnnl_memory_t *out, dnnl_engine_t engine, const dnnl_dims_t dims,
                            const dnnl_dims_t strides, dnnl_data_type_t type);

/* c = a b of such matrices, with what `attr` adds. *out likewise (dnnl_primitive_desc_destroy). */
dnnl_status_t onednn_matmul(dnnl_primitive_desc_t *out, dnnl_engine_t engine, dnnl_memory_t a,
                            dnnl_memory_t b, dnnl_memory_t c, dnnl_primitive_attr_t attr);

/* Adds to it what makes c = alpha a b + beta c. */
dnnl_status_t onednn_scale(dnnl_post_ops_t post, float alpha, float beta);

#endif
