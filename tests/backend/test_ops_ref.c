/* The suite over the reference backend. Results are compared with themselves here (what they should
 * be is checked by the other test_ref_*); guard bands, unchanged inputs, overwritten NaNs,
 * permitted sharing, equal bits and books are checked as for any backend. */
#include "backend/suite_run.h"

int main(void)
{
    return suite_main("ops on ref", ref_open);
}
