/* test_resp.c - what resp_server does, without its sockets: the protocol
 * (examples/resp.h) and the commands on strings (examples/resp_strings.h). */
#include "examples/resp_strings.h"
#include "test.h"

static struct resp_table table;
static struct resp conn;

static void begin(uint64_t max_bytes)
{
    struct cache_config config = { .capacity = max_bytes / 128,
                                   .max_bytes = max_bytes,
                                   .tick_ms = TICK_MS,
                                   .now_ms = &strings_now_ms };

    if (table.n == 0)
        resp_add(&table, string_commands,
                 sizeof string_commands / sizeof *string_commands);
    resp_free(&conn);
    memset(&conn, 0, sizeof conn);
    strings_destroy(&strings);
    strings_now_ms = 1000;
    CHECK_EQ(strings_init(&strings, &config), 0);
}

static void end(void)
{
    CHECK_SOUND(strings_check(&strings));
    strings_destroy(&strings);
    resp_free(&conn);
    memset(&conn, 0, sizeof conn);
}

/* What a read of n bytes does.  They stand at the end of their memory, so that
 * a look behind them is seen. */
static void feed(const char *data, size_t n)
{
    char *exact = (char *)malloc(conn.in.len + n + 1);

    if (conn.in.len > 0)
        memcpy(exact, conn.in.data, conn.in.len);
    if (n > 0)
        memcpy(exact + conn.in.len, data, n);
    free(conn.in.data);
    conn.in.data = (char *)realloc(exact, conn.in.len + n + (n == 0));
    conn.in.size = conn.in.len + n;
    resp_received(&conn, n);
    while (resp_next(&conn) > 0)
        resp_run(&conn, &table);
    resp_end(&conn);
}

/* Bytes that are sent, and what the answer is. */
static void exchange_bytes(const char *file, int line, const char *request,
                           size_t n, const char *answer, size_t n_answer)
{
    conn.out.len = 0;
    feed(request, n);
    if (conn.out.len == n_answer &&
        (n_answer == 0 || memcmp(conn.out.data, answer, n_answer) == 0))
        return;
    printf("%s:%d: %.*s: \"%.*s\" is not \"%s\"\n", file, line, (int)n, request,
           (int)conn.out.len, conn.out.len ? conn.out.data : "", answer);
    test__fail(file, line, "the answer");
}

#define BYTES(request, answer)                                                 \
    exchange_bytes(__FILE__, __LINE__, request, sizeof(request) - 1, answer,   \
                   sizeof(answer) - 1)
#define SAYS(request, answer) BYTES(request "\r\n", answer "\r\n")
#define FAILS(request, start) fails(__FILE__, __LINE__, request "\r\n", start)

static void fails(const char *file, int line, const char *request,
                  const char *start)
{
    conn.out.len = 0;
    feed(request, strlen(request));
    if (conn.out.len <= strlen(start) || conn.out.data[0] != '-' ||
        memcmp(conn.out.data + 1, start, strlen(start)) != 0)
        test__eq(file, line, request, 0, 1);
}

static void values(void)
{
    begin(1 << 20);
    SAYS("get a", "$-1");
    SAYS("set a 1", "+OK");
    SAYS("GET a", "$1\r\n1");
    SAYS("SeT a 22", "+OK");
    SAYS("get a", "$2\r\n22");
    SAYS("getset a 333", "$2\r\n22");
    SAYS("getset b x", "$-1");
    SAYS("mget a b c a", "*4\r\n$3\r\n333\r\n$1\r\nx\r\n$-1\r\n$3\r\n333");
    SAYS("getdel b", "$1\r\nx");
    SAYS("getdel b", "$-1");
    SAYS("mset a 1 b 2 a 3", "+OK");
    SAYS("mget a b", "*2\r\n$1\r\n3\r\n$1\r\n2");
    SAYS("strlen a", ":1");
    SAYS("strlen c", ":0");
    SAYS("append a bc", ":3");
    SAYS("append c xyz", ":3");
    SAYS("mget a c", "*2\r\n$3\r\n3bc\r\n$3\r\nxyz");
    SAYS("exists a b c d a", ":4");
    SAYS("type a", "+string");
    SAYS("type d", "+none");
    SAYS("dbsize", ":3");
    SAYS("del a d a", ":1");
    SAYS("unlink b c", ":2");
    SAYS("dbsize", ":0");
    SAYS("mset a 1 b 2", "+OK");
    SAYS("flushall", "+OK");
    SAYS("exists a b", ":0");
    BYTES("*3\r\n$3\r\nset\r\n$0\r\n\r\n$0\r\n\r\n", "+OK\r\n");
    BYTES("*2\r\n$3\r\nget\r\n$0\r\n\r\n", "$0\r\n\r\n");
    conn.resp3 = true;
    SAYS("get none", "_");
    end();
}

static void bytes(void)
{
    begin(1 << 20);
    BYTES("*3\r\n$3\r\nSET\r\n$3\r\na\0b\r\n$5\r\n\r\n\0\r\n\r\n", "+OK\r\n");
    BYTES("*3\r\n$3\r\nSET\r\n$3\r\na\0c\r\n$1\r\nx\r\n", "+OK\r\n");
    BYTES("*2\r\n$3\r\nGET\r\n$3\r\na\0b\r\n", "$5\r\n\r\n\0\r\n\r\n");
    BYTES("*2\r\n$3\r\nGET\r\n$3\r\na\0c\r\n", "$1\r\nx\r\n");
    BYTES("*2\r\n$3\r\nGET\r\n$1\r\na\r\n", "$-1\r\n");
    BYTES("*2\r\n$4\r\nGET\0\r\n$1\r\na\r\n", "-ERR unknown command 'GET'\r\n");
    /* It would stand where GET does. */
    BYTES("*2\r\n$8\r\nget\0aaas\r\n$1\r\na\r\n",
          "-ERR unknown command 'get'\r\n");
    /* What an error repeats does not end its line. */
    BYTES("*1\r\n$4\r\nA\r\nB\r\n", "-ERR unknown command 'A  B'\r\n");
    end();
}

static void set_options(void)
{
    begin(1 << 20);
    SAYS("set a 1 xx", "$-1");
    SAYS("set a 1 nx", "+OK");
    SAYS("set a 2 NX", "$-1");
    SAYS("get a", "$1\r\n1");
    SAYS("set a 2 XX", "+OK");
    SAYS("set a 3 get", "$1\r\n2");
    SAYS("set b 1 get", "$-1");
    SAYS("set b 2 nx get", "$1\r\n1");
    SAYS("set b 3 get xx", "$1\r\n1");
    SAYS("set c 3 get xx", "$-1");
    SAYS("mget a b c", "*3\r\n$1\r\n3\r\n$1\r\n3\r\n$-1");
    SAYS("set a 1 ex 100 nx get", "$1\r\n3");
    SAYS("ttl a", ":-1");
    SAYS("set a 1 ex 100", "+OK");
    SAYS("ttl a", ":100");
    SAYS("set a 2 keepttl", "+OK");
    SAYS("ttl a", ":100");
    SAYS("set a 2 px 50000 xx", "+OK");
    SAYS("pttl a", ":50000");
    SAYS("set a 2", "+OK");
    SAYS("ttl a", ":-1");
    SAYS("set none 2 keepttl", "+OK");
    SAYS("ttl none", ":-1");
    SAYS("set a 9 exat 4102444800", "+OK"); /* 2100: never, to this cache */
    SAYS("get a", "$1\r\n9");
    SAYS("set a 9 pxat 1000", "+OK"); /* long ago */
    SAYS("get a", "$-1");
    FAILS("set a 1 ex", "ERR syntax");
    FAILS("set a 1 ex 1 px 1", "ERR syntax");
    FAILS("set a 1 ex 1 keepttl", "ERR syntax");
    FAILS("set a 1 keepttl ex 1", "ERR syntax");
    FAILS("set a 1 nx xx", "ERR syntax");
    FAILS("set a 1 xx nx", "ERR syntax");
    FAILS("set a 1 what", "ERR syntax");
    FAILS("set a 1 ex 0", "ERR invalid expire");
    FAILS("set a 1 px -1", "ERR invalid expire");
    FAILS("set a 1 exat -5", "ERR invalid expire");
    FAILS("set a 1 ex 9223372036854775807", "ERR invalid expire");
    FAILS("set a 1 ex 9223372036854775808", "ERR value is not an integer");
    FAILS("set a 1 ex 1x", "ERR value is not an integer");
    SAYS("exists a", ":0");
    end();
}

static void numbers(void)
{
    begin(1 << 20);
    SAYS("incr n", ":1");
    SAYS("incrby n 41", ":42");
    SAYS("decr n", ":41");
    SAYS("decrby n 50", ":-9");
    SAYS("get n", "$2\r\n-9");
    SAYS("set n 9223372036854775806", "+OK");
    SAYS("incr n", ":9223372036854775807");
    FAILS("incr n", "ERR increment or decrement would overflow");
    FAILS("decrby n -1", "ERR increment or decrement would overflow");
    SAYS("get n", "$19\r\n9223372036854775807");
    SAYS("set n -9223372036854775808", "+OK");
    SAYS("incrby n 0", ":-9223372036854775808");
    FAILS("decr n", "ERR increment or decrement would overflow");
    FAILS("incrby n -9223372036854775808", "ERR increment or decrement");
    SAYS("set n -1", "+OK");
    SAYS("decrby n -9223372036854775808", ":9223372036854775807");
    FAILS("incrby n 9223372036854775808", "ERR value is not an integer");
    FAILS("incrby n -9223372036854775809", "ERR value is not an integer");
    FAILS("incrby n 18446744073709551617", "ERR value is not an integer");
    FAILS("incrby n +1", "ERR value is not an integer");
    FAILS("incrby n 01", "ERR value is not an integer");
    FAILS("incrby n -0", "ERR value is not an integer");
    FAILS("incrby n -", "ERR value is not an integer");
    FAILS("incrby n 1.5", "ERR value is not an integer");
    BYTES("*3\r\n$6\r\nincrby\r\n$1\r\nn\r\n$0\r\n\r\n",
          "-ERR value is not an integer or out of range\r\n");
    SAYS("set t abc", "+OK");
    FAILS("incr t", "ERR value is not an integer");
    SAYS("set t 5 ex 100", "+OK");
    SAYS("incr t", ":6");
    SAYS("ttl t", ":100");
    SAYS("append t 0", ":2");
    SAYS("ttl t", ":100");
    end();
}

static void times(void)
{
    begin(1 << 20);
    SAYS("set a 1", "+OK");
    SAYS("ttl a", ":-1");
    SAYS("ttl b", ":-2");
    SAYS("pttl b", ":-2");
    SAYS("expire b 10", ":0");
    SAYS("expire a 10", ":1");
    SAYS("pttl a", ":10000");
    SAYS("persist a", ":1");
    SAYS("persist a", ":0");
    SAYS("persist b", ":0");
    SAYS("ttl a", ":-1");
    SAYS("pexpire a 1500", ":1");
    SAYS("ttl a", ":2");
    strings_now_ms += 1000;
    SAYS("pttl a", ":500");
    SAYS("ttl a", ":1");
    SAYS("get a", "$1\r\n1");
    strings_now_ms += 499;
    SAYS("get a", "$1\r\n1");
    strings_now_ms += 1;
    SAYS("get a", "$-1");
    SAYS("exists a", ":0");
    SAYS("type a", "+none");
    SAYS("strlen a", ":0");
    SAYS("ttl a", ":-2");
    SAYS("incr a", ":1");
    SAYS("ttl a", ":-1");
    SAYS("expire a 0", ":1");
    SAYS("exists a", ":0");
    SAYS("set a 1", "+OK");
    SAYS("expire a -1", ":1");
    SAYS("exists a", ":0");
    SAYS("expire a -1", ":0");
    SAYS("set a 1", "+OK");
    FAILS("expire a 9223372036854775807",
          "ERR invalid expire time in 'expire'");
    FAILS("expire a -9223372036854775807", "ERR invalid expire");
    FAILS("expire a x", "ERR value is not an integer");
    SAYS("pexpire a 9223372036854775807", ":1"); /* beyond the cache's time */
    SAYS("ttl a", ":-1");
    SAYS("set a 1 px 1", "+OK"); /* less than a tick is over */
    SAYS("exists a", ":0");
    SAYS("mset a 1 b 2", "+OK");
    SAYS("pexpire a 100", ":1");
    strings_now_ms += 200;
    SAYS("append a xy", ":2");
    CHECK_EQ(strings_tick(&strings, 100), 0);
    SAYS("dbsize", ":2");
    end();
}

/* MATCH, as Redis has it. */
static void patterns(void)
{
    static const struct {
        const char *pattern, *text;
        bool matches;
    } cases[] = {
        { "*", "", true },
        { "", "", true },
        { "", "a", false },
        { "*", "abc", true },
        { "a*c", "abbbc", true },
        { "a*c", "abbb", false },
        { "a?c", "abc", true },
        { "a?c", "ac", false },
        { "a[bc]d", "acd", true },
        { "a[bc]d", "aed", false },
        { "a[^b]", "ab", false },
        { "a[^b]", "ac", true },
        { "[a-c]x", "bx", true },
        { "[c-a]x", "bx", true },
        { "[a-c]x", "dx", false },
        { "a\\*", "a*", true },
        { "a\\*", "ab", false },
        { "[\\]]", "]", true },
        { "[abc", "c", true },
        { "[", "a", false },
        { "[^", "a", true },
        { "\\", "\\", true },
        { "**a**", "xax", true },
        { "*a*b*c*", "1a2b3c4", true },
        { "*a*b*c*", "1a2c3", false },
        { "[a-", "-", true },
        { "[a-]", "b", false },
        { "*[0-9]", "key:7", true },
    };
    size_t i;

    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *pattern = strdup(cases[i].pattern), *text = strdup(cases[i].text);
        bool matches =
            resp_matches((struct cache_bytes) { pattern, strlen(pattern) },
                         (struct cache_bytes) { text, strlen(text) });
        if (matches != cases[i].matches)
            printf("%s %s\n", pattern, text);
        CHECK_EQ(matches, cases[i].matches);
        free(pattern);
        free(text);
    }
    /* Not exponential: what a stranger asks for does not stop the server. */
    begin(1 << 20);
    SAYS("set aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 1", "+OK");
    SAYS("scan 0 match *a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b count 10",
         "*2\r\n$1\r\n0\r\n*0");
    FAILS("scan x", "ERR invalid cursor");
    FAILS("scan -1", "ERR invalid cursor");
    FAILS("scan 4294967296", "ERR invalid cursor");
    SAYS("scan 4294967295", "*2\r\n$1\r\n0\r\n*0");
    FAILS("scan 0 match", "ERR syntax");
    FAILS("scan 0 count 0", "ERR syntax");
    FAILS("scan 0 count x", "ERR value is not an integer");
    FAILS("scan 0 what 1", "ERR syntax");
    end();
}

static void arity(void)
{
    begin(1 << 20);
    FAILS("get", "ERR wrong number of arguments for 'get' command");
    FAILS("get a b", "ERR wrong number");
    FAILS("set a", "ERR wrong number");
    FAILS("mget", "ERR wrong number");
    FAILS("mset a", "ERR wrong number");
    FAILS("mset a 1 b", "ERR wrong number");
    FAILS("incrby a", "ERR wrong number");
    FAILS("decrby a", "ERR wrong number");
    FAILS("incr a 1", "ERR wrong number");
    FAILS("scan", "ERR wrong number");
    FAILS("expire a", "ERR wrong number");
    FAILS("nothing", "ERR unknown command 'nothing'");
    BYTES("*1\r\n$0\r\n\r\n", "-ERR unknown command ''\r\n");
    /* What a command before had is not there any more. */
    SAYS("incrby a 5", ":5");
    FAILS("incrby a", "ERR wrong number");
    SAYS("get a", "$1\r\n5");
    BYTES("\r\n  \r\n*0\r\n*-1\r\n", "");
    CHECK_EQ(conn.state, RESP_OPEN);
    end();
}

static void violates(const char *file, int line, const char *request, size_t n,
                     const char *why)
{
    char answer[128];

    snprintf(answer, sizeof answer, "-ERR Protocol error: %s\r\n", why);
    begin(1 << 20);
    exchange_bytes(file, line, request, n, answer, strlen(answer));
    if (conn.state != RESP_ENDED)
        test__fail(file, line, "the connection is open");
    n = conn.in.len;
    exchange_bytes(file, line, "get a\r\n", 7, "", 0); /* no more is heard */
    CHECK_EQ(conn.in.len, n);
    end();
}
#define VIOLATES(request, why)                                                 \
    violates(__FILE__, __LINE__, request, sizeof(request) - 1, why)

static void violations(void)
{
    static char large[RESP_MAX_INLINE + 1];
    size_t i;

    VIOLATES("*1048577\r\n", "invalid multibulk length");
    VIOLATES("*x\r\n", "invalid multibulk length");
    VIOLATES("*\r\n", "invalid multibulk length");
    VIOLATES("*1\n", "invalid multibulk length");
    VIOLATES("*99999999999999999999999999", "invalid multibulk length");
    VIOLATES("*1\r\n:1\r\n", "invalid bulk length");
    VIOLATES("*1\r\n$-1\r\n", "invalid bulk length");
    VIOLATES("*1\r\n$16777217\r\n", "invalid bulk length");
    VIOLATES("*1\r\n$9223372036854775808\r\n", "invalid bulk length");
    VIOLATES("*1\r\n$3\r\ngetxx", "string without its end");
    VIOLATES("*1\r\n$3\r\nget\r\r", "string without its end");
    memset(large, 'a', sizeof large);
    violates(__FILE__, __LINE__, large, sizeof large, "too big inline request");

    /* The commands before it are answered first. */
    begin(1 << 20);
    BYTES("get a\r\n*2\r\n$3\r\nget\r\n$1\r\na\r\n*2\r\n$3\r\nget\r\n$x\r\n",
          "$-1\r\n$-1\r\n-ERR Protocol error: invalid bulk length\r\n");
    end();

    /* Five strings of 16 MB are more than a request may have. */
    begin(1 << 20);
    feed("*5\r\n", 4);
    for (i = 0; i < 5 && !conn.violation; i++) {
        char *bulk = (char *)malloc(RESP_MAX_BULK + 16);
        int head = sprintf(bulk, "$%u\r\n", RESP_MAX_BULK);
        memset(bulk + head, 'x', RESP_MAX_BULK);
        memcpy(bulk + head + RESP_MAX_BULK, "\r\n", 2);
        feed(bulk, (size_t)head + RESP_MAX_BULK + 2);
        free(bulk);
    }
    CHECK_EQ(i, 4);
    CHECK_STR(conn.violation, "too big request");
    end();
}

static void limits(void)
{
    size_t n = 1 << 20, i;
    char *request = (char *)malloc(n + 100);
    int head = sprintf(request, "*3\r\n$3\r\nset\r\n$1\r\na\r\n$%zu\r\n", n);

    begin(1 << 16);
    memset(request + head, 'x', n);
    memcpy(request + head + n, "\r\n", 2);
    feed(request, (size_t)head + n + 2);
    CHECK_EQ(strncmp(conn.out.data, "-OOM", 4), 0);
    SAYS("set a 1", "+OK");
    conn.out.len = 0;
    memcpy(request + 8, "get", 3); /* "get a x.." */
    feed(request, (size_t)head + n + 2);
    CHECK_EQ(strncmp(conn.out.data, "-ERR wrong", 10), 0);
    /* What was to be the answer of a SET that fails is not sent. */
    memcpy(request, "*4", 2);
    memcpy(request + 8, "set", 3);
    memcpy(request + head + n, "\r\n", 2);
    conn.out.len = 0;
    feed(request, (size_t)head + n + 2);
    feed("$3\r\nget\r\n", 9);
    CHECK_EQ(strncmp(conn.out.data, "-OOM", 4), 0);
    SAYS("get a", "$1\r\n1");
    SAYS("mget a a", "*2\r\n$1\r\n1\r\n$1\r\n1");
    end();

    /* Replies that nobody takes. */
    begin(8 << 20);
    memcpy(request, "*3", 2);
    feed(request, (size_t)head + n + 2);
    for (i = 0; i < 100 && conn.state == RESP_OPEN; i++)
        feed("get a\r\n", 7);
    CHECK_EQ(i, 64);
    CHECK_EQ(conn.state, RESP_DROPPED);
    CHECK_EQ(conn.out.len, 0);
    end();
    begin(8 << 20);
    feed(request, (size_t)head + n + 2);
    conn.unsent = RESP_MAX_OUTPUT - 5;
    feed("get a\r\n", 7);
    CHECK_EQ(conn.state, RESP_DROPPED);
    end();
    free(request);
}

/* A pipeline of all kinds of commands. */
static const char stream[] =
    "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$4\r\n\r\n\r\n\r\n"
    "*2\r\n$3\r\nGET\r\n$1\r\na\r\n*2\r\n$3\r\nGET\r\n$1\r\nb\r\n"
    "*2\r\n$3\r\nGET\r\n$10\r\nlong:key:1\r\n*2\r\n$3\r\nget\r\n$1\r\na\r\n"
    "get a\r\nget b\nget  a \r\n\r\n*0\r\n*-1\r\nnothing\r\n"
    "*3\r\n$6\r\nincrby\r\n$1\r\nn\r\n$2\r\n-7\r\n"
    "*4\r\n$4\r\nmget\r\n$1\r\na\r\n$1\r\nn\r\n$0\r\n\r\n"
    "*1\r\n$3\r\nget\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\n"
    "*2\r\n$3\r\nGET\r\n$1\r\nn\r\n*2\r\n$3\r\nGET\r\n$1\r\n\0\r\n"
    "*3\r\n$3\r\nGET\r\n$1\r\na\r\n$1\r\na\r\n"
    "*2\r\n$3\r\nDEL\r\n$1\r\na\r\n*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n"
    "*2\r\n$3\r\nGET\r\n$1\r\na\r\n*2\r\n$3\r\nGET\r\n$-1\r\n";

static void splits(void)
{
    size_t n = sizeof stream - 1, n_all, i;
    char *all;

    begin(1 << 20);
    feed(stream, n);
    CHECK_EQ(conn.state, RESP_ENDED);
    n_all = conn.out.len;
    all = (char *)malloc(n_all);
    memcpy(all, conn.out.data, n_all);
    for (i = 0; i <= n; i++) {
        begin(1 << 20);
        feed(stream, i);
        feed(stream + i, n - i);
        CHECK_EQ(conn.out.len, n_all);
        CHECK_EQ(memcmp(conn.out.data, all, n_all), 0);
    }
    begin(1 << 20);
    for (i = 0; i < n; i++)
        feed(stream + i, 1);
    CHECK_EQ(conn.out.len, n_all);
    CHECK_EQ(memcmp(conn.out.data, all, n_all), 0);
    free(all);
    end();
}

static void pipelines(void)
{
    enum { N = 5000 };
    char *request = (char *)malloc(N * 64), *p = request;
    char *answer = (char *)malloc(N * 64), *a = answer;
    int i;

    begin(8 << 20);
    for (i = 0; i < N; i++) {
        p += sprintf(p, "*3\r\n$3\r\nset\r\n$8\r\nkey:%04d\r\n$4\r\n%04d\r\n",
                     i, i);
        a += sprintf(a, "+OK\r\n");
    }
    exchange_bytes(__FILE__, __LINE__, request, (size_t)(p - request), answer,
                   (size_t)(a - answer));
    p = request;
    a = answer;
    for (i = 0; i < N; i++) {
        p += sprintf(p, "*2\r\n$3\r\nget\r\n$8\r\nkey:%04d\r\n", i * 7 % 6000);
        a += i * 7 % 6000 < N ? sprintf(a, "$4\r\n%04d\r\n", i * 7 % 6000)
                              : sprintf(a, "$-1\r\n");
    }
    exchange_bytes(__FILE__, __LINE__, request, (size_t)(p - request), answer,
                   (size_t)(a - answer));
    CHECK_EQ(conn.n_commands, 2 * N);
    CHECK_EQ(strings_check(&strings) == NULL, 1);
    free(request);
    free(answer);
    end();
}

/* Keys that are there during a whole scan are returned, whatever else comes,
 * goes, expires and changes. */
static void scans(void)
{
    enum { KEPT = 300 };
    uint64_t state = test_seed;
    int round;

    for (round = 0; round < 20; round++) {
        int seen[KEPT] = { 0 }, i;
        char line[64], cursor[16] = "0";
        begin(1 << 20);
        for (i = 0; i < 2 * KEPT; i++) {
            sprintf(line, i % 2 ? "set kept:%d 1\r\n" : "set other:%d 1\r\n",
                    i / 2);
            feed(line, strlen(line));
        }
        do {
            char *p;
            for (i = 0; i < 20; i++) {
                int id = (int)(test_random(&state) % KEPT);
                static const char *const writes[] = {
                    "set kept:%d 2 ex 100\r\n", "append kept:%d 34\r\n",
                    "persist kept:%d\r\n",      "del other:%d\r\n",
                    "set other:%d 2 px 50\r\n", "set new:%d 1\r\n"
                };
                sprintf(line, writes[test_random(&state) % 6], id);
                feed(line, strlen(line));
            }
            strings_now_ms += test_random(&state) % 50;
            strings_tick(&strings, 50);
            conn.out.len = 0;
            sprintf(line, "scan %s count %d match kept:*\r\n", cursor,
                    (int)(test_random(&state) % 40) + 1);
            feed(line, strlen(line));
            *resp_room(&conn.out, 1) = '\0';
            CHECK_EQ(sscanf(conn.out.data, "*2\r\n$%*d\r\n%15s", cursor), 1);
            for (p = conn.out.data; (p = strstr(p, "kept:")) != NULL; p++)
                seen[atoi(p + 5)]++;
        } while (strcmp(cursor, "0") != 0);
        for (i = 0; i < KEPT; i++)
            CHECK_EQ(seen[i], 1);
    }
    end();
}

/* One reply at p: its end, or NULL if it is none. */
static const char *reply_end(const char *p, const char *end)
{
    char kind = p < end ? *p : '\0';
    const char *line = (const char *)memchr(p, '\n', (size_t)(end - p));
    int64_t n;

    if (line == NULL || line[-1] != '\r')
        return NULL;
    if (kind == '+' || kind == '-' || kind == '_')
        return line + 1;
    if (strchr(":$*", kind) == NULL ||
        !resp_to_number((struct cache_bytes) { p + 1, (size_t)(line - p) - 2 },
                        &n))
        return NULL;
    p = line + 1;
    if (kind == '$' && n >= 0)
        return end - p >= n + 2 && memcmp(p + n, "\r\n", 2) == 0 ? p + n + 2
                                                                 : NULL;
    while (kind == '*' && n-- > 0 && p != NULL)
        p = reply_end(p, end);
    return p;
}

/* Streams with bytes exchanged, cut and repeated, in reads of any size: each
 * command has one reply, and what is replied does not depend on the reads. */
static void mutations(void)
{
    uint64_t state = test_seed, n_commands = 0;
    long round, rounds = 3000 * test_scale();

    for (round = 0; round < rounds; round++) {
        char text[4 * sizeof stream], *once = NULL;
        size_t n = 0, n_once = 0, at, i, part;
        int twice;
        while (n < sizeof stream) {
            at = test_random(&state) % (sizeof stream - 1);
            part = test_random(&state) % (sizeof stream - at);
            if (test_random(&state) % 2)
                at = 0, part = sizeof stream - 1;
            memcpy(text + n, stream + at, part);
            n += part;
        }
        for (i = test_random(&state) % 8; i > 0; i--)
            text[test_random(&state) % n] =
                "*$0123456789-\r\nAZ \0\xff"[test_random(&state) % 20];
        for (twice = 0; twice < 2; twice++) {
            uint64_t chunk = test_random(&state) % 200 + 1;
            begin(1 << 16);
            for (at = 0; at < n; at += part) {
                part = twice ? test_random(&state) % chunk + 1 : n;
                part = part < n - at ? part : n - at;
                feed(text + at, part);
            }
            if (!twice) {
                const char *p = conn.out.data, *end = p + conn.out.len;
                size_t replies = 0;
                n_once = conn.out.len;
                once = (char *)malloc(n_once + 1);
                memcpy(once, conn.out.data ? conn.out.data : "", n_once);
                for (; p != end; replies++)
                    CHECK((p = reply_end(p, end)) != NULL);
                CHECK(replies <= conn.n_commands + (conn.state == RESP_ENDED));
                n_commands += conn.n_commands;
            }
        }
        CHECK_EQ(conn.out.len, n_once);
        CHECK_EQ(memcmp(conn.out.data ? conn.out.data : "", once, n_once), 0);
        free(once);
        end();
    }
    CHECK(n_commands > 3 * (uint64_t)rounds);
}

/* The limit in bytes holds, and what is stored comes back whole. */
static void evictions(void)
{
    uint64_t state = test_seed;
    char line[512], value[300];
    struct cache_stats stats;
    int i, n_found = 0;

    begin(1 << 16);
    for (i = 0; i < 20000; i++) {
        int id = (int)(test_random(&state) % 500);
        memset(value, 'a' + id % 26, sizeof value);
        if (test_random(&state) % 2) {
            sprintf(line, "set %d %.*s px %d\r\n", id, id % 200 + 1, value,
                    (int)(test_random(&state) % 8000) + 1);
            feed(line, strlen(line));
        } else {
            conn.out.len = 0;
            sprintf(line, "get %d\r\n", id);
            feed(line, strlen(line));
            sprintf(line, "$%d\r\n%.*s\r\n", id % 200 + 1, id % 200 + 1, value);
            if (conn.out.data[1] != '-') {
                n_found++;
                CHECK_EQ(conn.out.len, strlen(line));
                CHECK_EQ(memcmp(conn.out.data, line, conn.out.len), 0);
            }
        }
        strings_now_ms += test_random(&state) % 4;
        if (i % 100 == 0)
            strings_tick(&strings, 20);
        CHECK(strings_memory(&strings).used_bytes <= 1 << 16);
    }
    CHECK_EQ(strings_stats(&strings, &stats), 0);
    CHECK(stats.evictions > 100 && stats.expirations > 100 && n_found > 1000);
    end();
}

static const struct test tests[] = {
    TEST(values),    TEST(bytes),     TEST(set_options), TEST(numbers),
    TEST(times),     TEST(patterns),  TEST(arity),       TEST(violations),
    TEST(limits),    TEST(splits),    TEST(pipelines),   TEST(scans),
    TEST(evictions), TEST(mutations),
};

int main(int argc, char **argv)
{
    return TEST_MAIN(argc, argv, tests);
}
