/* Gives BTF to the types: see askCompiler. */
#include "types.h"

struct params params;
struct packet packet;
struct device device;
struct header header;
enum large large;
