// RapidCheck behind the C interface of property.h.
#include "property/property.h"

#include <cstdlib>
#include <rapidcheck.h>

static std::string named(const char *name, const std::string &value)
{
    return std::string(name) + " = " + value;
}

extern "C" int64_t property_int(const char *name, int64_t low, int64_t high)
{
    // inRange leaves its upper end out, and shrinks towards its lower one.
    int64_t value = *rc::gen::inRange<int64_t>(low, high + 1);
    RC_LOG() << named(name, std::to_string(value)) << std::endl;
    return value;
}

extern "C" double property_real(const char *name, double low, double high)
{
    const int64_t steps = 1 << 20;
    int64_t step = *rc::gen::inRange<int64_t>(0, steps + 1);
    double value = low + (high - low) * static_cast<double>(step) / static_cast<double>(steps);
    RC_LOG() << named(name, std::to_string(value)) << std::endl;
    return value;
}

extern "C" uint64_t property_seed(const char *name)
{
    uint64_t value = *rc::gen::noShrink(rc::gen::arbitrary<uint64_t>());
    RC_LOG() << named(name, std::to_string(value)) << std::endl;
    return value;
}

extern "C" bool property_check(const char *description, int runs, property_fn property,
                               void *context)
{
    setenv("RC_PARAMS", "seed=1", 0); // A failure is the same for everybody.
    rc::detail::TestParams params = rc::detail::configuration().testParams;
    params.maxSuccess = runs;
    rc::detail::TestMetadata metadata;
    metadata.id = description;
    metadata.description = description;
    const auto result = rc::detail::checkTestable(
        [=] {
            char why[PROPERTY_WHY] = "";
            if (!property(context, why))
                RC_FAIL(std::string(why));
        },
        metadata, params);
    if (result.template is<rc::detail::SuccessResult>())
        return true;
    rc::detail::printResultMessage(result, std::cerr);
    std::cerr << std::endl;
    return false;
}
