/* What fcgi-load counts: errors, breaches of the protocol, latencies and CPU; and the report of them. */
/* Every counter here is one line of the report.  E: an error (the request failed).  V: the server broke the protocol
 * or answered something else than was expected.  I: for information only. */
#define COUNTERS(X) \
	X(E, connect_failed) X(E, connect_backlog_full) X(E, eof_before_reply) X(E, eof_in_reply) X(E, reset) \
	X(E, unfinished) X(V, bad_version) X(V, unexpected_type) X(V, unknown_id) X(V, data_after_end) \
	X(V, data_after_stdout_eof) X(V, bad_end_length) X(V, protocol_status) X(V, truncated_head) X(V, bad_status) \
	X(V, bad_body_length) X(V, bad_body) X(V, no_close) X(I, connects) X(I, closed_while_idle) X(I, early_end) \
	X(I, no_stdout_eof) X(I, app_status_nonzero) X(I, stderr_bytes) X(I, padded_records) X(I, records_in)
#define X(kind, name) N_##name,
enum { COUNTERS(X) N_COUNT };
#undef X
#define X(kind, name) #name,
static const char *const counter_name[] = { COUNTERS(X) };
#undef X
#define X(kind, name) #kind[0],
static const char counter_kind[] = { COUNTERS(X) };
#undef X

static long count[N_COUNT], completed, good, started;
static uint64_t bytes_in, bytes_out, body_in;
static uint64_t histogram[64 * 64], latency_max, latency_sum;	/* log-linear, 64 steps an octave: within 1.6 % */

static long total(char kind)
{
	long sum = 0;
	for (int i = 0; i < N_COUNT; i++) if (counter_kind[i] == kind) sum += count[i];
	return sum;
}

static void histogram_add(uint64_t ns)
{
	int shift = 0;
	for (uint64_t v = ns; v >= 128; v >>= 1) shift++;
	unsigned index = (unsigned)(shift * 64) + (unsigned)(ns >> shift);
	histogram[index < 64 * 64 ? index : 64 * 64 - 1]++;
	latency_sum += ns;
	if (ns > latency_max) latency_max = ns;
}

static double histogram_us(double quantile)
{
	uint64_t want = (uint64_t)(quantile * (double)completed), seen = 0;
	for (unsigned i = 0; i < 64 * 64; i++) {
		seen += histogram[i];
		if (histogram[i] && seen > want) {
			unsigned shift = i < 128 ? 0 : i / 64 - 1;
			double ns = ((double)(i - shift * 64) + (i < 128 ? 0 : 0.5)) * (double)(1ull << shift);
			return (ns > (double)latency_max ? (double)latency_max : ns) / 1000;
		}
	}
	return (double)latency_max / 1000;
}

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
