/* The options of fcgi-load and its command line. */
static struct {
	const char *unix_path, *tcp, *method, *uri, *script, *params, *expect_body, *label;
	const char *extra[MAX_EXTRA];
	int extra_count, connections, multiplex, ids, keep_conn, interleave, wait_eof, poll, pad, json, idle, pid_count;
	int pids[MAX_PIDS], expect_status;
	long requests, body, record_size, expect_bytes, max_errors;
	double seconds, warmup, timeout;
} opt = {
	.method = NULL, .uri = "/bench/hello?name=world&page=2", .script = "/srv/www/app/index.php", .params = "nginx",
	.label = "", .connections = 1, .multiplex = 1, .keep_conn = 1, .pad = 1, .expect_status = 200,
	.record_size = 32760, .expect_bytes = -1, .max_errors = 100000, .timeout = 10,
};

static const char usage[] =
	"fcgi-load (--unix PATH | --tcp 127.0.0.1:PORT) (--requests N | --seconds S) [options]\n"
	"  --connections C     connections (1)             --multiplex M     requests in flight on each (1)\n"
	"  --keep-conn 0|1     0: one request each (1)     --ids N           request ids to cycle through (M)\n"
	"  --interleave 0|1    send the M requests record by record in turn, not whole (0)\n"
	"  --wait-eof 0|1      with --keep-conn 0: the server must close within 1 s (0: close at END_REQUEST)\n"
	"  --body BYTES        STDIN of each request (0)   --record-size N   its records, 1 to 65535 (32760)\n"
	"  --params nginx|small  the parameter set (nginx) --pad 0|1         pad records to 8 bytes (1)\n"
	"  --method M --uri U --script FILE                REQUEST_METHOD (GET, or POST), REQUEST_URI, SCRIPT_FILENAME\n"
	"  --param NAME=VALUE  one more parameter (repeatable)\n"
	"  --expect-bytes N    every reply's body length   --expect-body S   every reply's body\n"
	"  --expect-status N   every reply's status (200)  --idle N          first open N connections and leave them idle\n"
	"  --warmup S          seconds not measured (0)    --timeout S       give up after S without a reply (10)\n"
	"  --poll 1            never sleep: a slow server does not have to wake the generator at every reply (0)\n"
	"  --max-errors N      stop after N (100000)       --pid PID         report its CPU and memory (repeatable)\n"
	"  --json              one JSON object             --label TEXT      its \"label\"\n";

static void parse_options(int argc, char **argv)
{
	enum { INT, LONG, REAL, TEXT, MORE, PID, FLAG, HELP };
	static const struct { const char *name; int kind; void *at; } known[] = {
		{ "unix", TEXT, &opt.unix_path }, { "tcp", TEXT, &opt.tcp }, { "connections", INT, &opt.connections },
		{ "multiplex", INT, &opt.multiplex }, { "ids", INT, &opt.ids }, { "keep-conn", INT, &opt.keep_conn },
		{ "interleave", INT, &opt.interleave }, { "wait-eof", INT, &opt.wait_eof }, { "poll", INT, &opt.poll }, { "requests", LONG, &opt.requests },
		{ "seconds", REAL, &opt.seconds }, { "warmup", REAL, &opt.warmup }, { "timeout", REAL, &opt.timeout },
		{ "body", LONG, &opt.body }, { "record-size", LONG, &opt.record_size }, { "params", TEXT, &opt.params },
		{ "pad", INT, &opt.pad }, { "method", TEXT, &opt.method }, { "uri", TEXT, &opt.uri },
		{ "script", TEXT, &opt.script }, { "param", MORE, NULL }, { "expect-bytes", LONG, &opt.expect_bytes },
		{ "expect-body", TEXT, &opt.expect_body }, { "expect-status", INT, &opt.expect_status }, { "idle", INT, &opt.idle },
		{ "max-errors", LONG, &opt.max_errors }, { "pid", PID, NULL }, { "label", TEXT, &opt.label },
		{ "json", FLAG, &opt.json }, { "help", HELP, NULL },
	};
	enum { COUNT = sizeof known / sizeof *known };
	struct option options[COUNT + 1] = { 0 };
	for (int i = 0; i < COUNT; i++) options[i] = (struct option){ known[i].name, known[i].kind < FLAG, NULL, i };
	for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1; ) {
		switch (o < COUNT ? known[o].kind : -1) {
		case INT: *(int *)known[o].at = atoi(optarg); break;
		case LONG: *(long *)known[o].at = atol(optarg); break;
		case REAL: *(double *)known[o].at = atof(optarg); break;
		case TEXT: *(const char **)known[o].at = optarg; break;
		case MORE: if (opt.extra_count < MAX_EXTRA) opt.extra[opt.extra_count++] = optarg; break;
		case PID: if (opt.pid_count < MAX_PIDS) opt.pids[opt.pid_count++] = atoi(optarg); break;
		case FLAG: *(int *)known[o].at = 1; break;
		case HELP: fputs(usage, stdout); exit(0);
		default: fputs(usage, stderr); exit(2);
		}
	}
	if (!opt.method) opt.method = opt.body ? "POST" : "GET";
	if (opt.ids < opt.multiplex) opt.ids = opt.multiplex;
	bool ok = !opt.unix_path != !opt.tcp && (opt.requests > 0) != (opt.seconds > 0) && opt.connections > 0 &&
		opt.multiplex > 0 && opt.ids < 65536 && opt.record_size > 0 && opt.record_size < 65536 && opt.body >= 0 &&
		(opt.keep_conn || opt.multiplex == 1) && (!strcmp(opt.params, "nginx") || !strcmp(opt.params, "small"));
	if (!ok || optind < argc) fputs(usage, stderr), exit(2);
}
