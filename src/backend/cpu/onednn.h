/* The calls of a matmul that differ between oneDNN 2 and 3. */
#ifndef DEQ_BACKEND_CPU_ONEDNN_H
#define DEQ_BACKEND_CPU_ONEDNN_H

#include <oneapi/dnnl/dnnl.h>

/* The bytes of address space that oneDNN may take when it compiles a product. Where they are
 * refused it writes to address 0, and so it is not called without them (mem_has_room). */
enum { ONEDNN_ROOM = 64 << 20 };

/* Makes memory, without data yet, for a matrix. strides are the distances between its rows and
 * between its columns. The caller owns *out (dnnl_memory_destroy), which a failure leaves
 * untouched. */
dnnl_status_t onednn_matrix(dnnl_memory_t *out, dnnl_engine_t engine, const dnnl_dims_t dims,
                            const dnnl_dims_t strides, dnnl_data_type_t type);

/* Describes c = a b of such matrices, with what `attr` adds. The caller owns *out
 * (dnnl_primitive_desc_destroy), which a failure leaves untouched. */
dnnl_status_t onednn_matmul(dnnl_primitive_desc_t *out, dnnl_engine_t engine, dnnl_memory_t a,
                            dnnl_memory_t b, dnnl_memory_t c, dnnl_primitive_attr_t attr);

/* Adds to post what makes it c = alpha a b + beta c. */
dnnl_status_t onednn_scale(dnnl_post_ops_t post, float alpha, float beta);

#endif
