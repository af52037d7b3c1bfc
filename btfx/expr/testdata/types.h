/* The types and values that expressions are tested with. */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed char s8;
typedef short s16;
typedef int s32;
typedef long long s64;

enum state { IDLE, BUSY = 5, LOST = 0x7fffffff };
enum negative { MINUS = -3, ZERO = 0, PLUS = 3 };
enum large { LARGE = 0x100000000, LARGER = 0xffffffffffffffff };

struct device {
	int ifindex;
	char name[16];
	struct device *next;
	const char *alias;
	u8 addr[6];
};

struct packet {
	u32 len, data_len;
	u8 b;
	s8 sb;
	u16 h;
	s16 sh;
	s32 i;
	u64 q;
	s64 sq;
	long l;
	unsigned long ul;
	_Bool yes, no;
	enum state state;
	enum negative negative;
	unsigned char *head;
	u16 network_header;
	struct device *dev;
	struct packet *none;
	void *cookie;
	union {
		u32 mark;
		struct {
			u16 low, high;
		};
	};
	struct {
		int depth;
		struct {
			int deeper;
		} in;
	} nested;
	u32 one : 1, three : 3, twelve : 12, rest : 16;
	s32 sthree : 3, stwenty : 20;
	u64 wide : 40, more : 20;
	u32 full : 32;
	_Bool bone : 1, btwo : 1, bthree : 1, bfour : 1;
	int grid[3][4];
	struct device devs[2];
	struct device *list[3];
};

struct header {
	u8 ihl : 4, version : 4;
	u8 tos;
	u16 tot_len;
	u32 saddr;
} __attribute__((packed));

typedef struct packet packet_t;

/* What an expression is made over. */
struct params {
	struct packet *p;
	packet_t *again;
	int n;
	unsigned int u;
	long l;
	unsigned long ul;
	char c;
	u8 b;
	s16 sh;
	_Bool yes;
	_Bool no;
	enum state state;
	enum negative negative;
	void *ptr;
	const char *text;
	u8 *bytes;
	struct device **devs;
};
