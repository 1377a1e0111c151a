/* The report of a run, as lines or as JSON. */
static double pid_cpu(int pid)
{
	char path[64], line[1024];
	unsigned long user = 0, system = 0;
	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	FILE *f = fopen(path, "r");
	if (!f) return 0;
	char *after = fgets(line, sizeof line, f) ? strrchr(line, ')') : NULL;
	if (after) sscanf(after + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system);
	fclose(f);
	return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static long pid_memory(int pid, const char *field)
{
	char path[64], line[256];
	long kb = 0;
	snprintf(path, sizeof path, "/proc/%d/status", pid);
	FILE *f = fopen(path, "r");
	while (f && fgets(line, sizeof line, f)) {
		if (!strncmp(line, field, strlen(field))) kb = atol(line + strlen(field) + 1);
	}
	if (f) fclose(f);
	return kb;
}

static void report(double elapsed)
{
	long errors = total('E'), violations = total('V'), starved = 0;
	double cpu = 0, rate = (double)completed / elapsed;
	long rss = 0, peak = 0;
	struct rusage self;
	for (int i = 0; i < opt.connections; i++) starved += connections[i].served == 0;
	for (int i = 0; i < opt.pid_count; i++) {
		cpu += pid_cpu(opt.pids[i]) - cpu_before[i];
		rss += pid_memory(opt.pids[i], "VmRSS");
		peak += pid_memory(opt.pids[i], "VmHWM");
	}
	getrusage(RUSAGE_SELF, &self);
	double own = (double)(self.ru_utime.tv_sec + self.ru_stime.tv_sec) +
		(double)(self.ru_utime.tv_usec + self.ru_stime.tv_usec) / 1e6;
	const struct { const char *name; double value; int digits; } line[] = {
		{ "requests", (double)completed, 0 }, { "good", (double)good, 0 }, { "errors", (double)errors, 0 },
		{ "violations", (double)violations, 0 }, { "seconds", elapsed, 3 }, { "rps", rate, 1 },
		{ "mean_us", completed ? (double)latency_sum / (double)completed / 1000 : 0, 1 },
		{ "p50_us", histogram_us(.5), 1 }, { "p90_us", histogram_us(.9), 1 }, { "p99_us", histogram_us(.99), 1 },
		{ "p999_us", histogram_us(.999), 1 }, { "max_us", (double)latency_max / 1000, 1 },
		{ "mb_in_s", (double)bytes_in / elapsed / 1e6, 2 }, { "mb_out_s", (double)bytes_out / elapsed / 1e6, 2 },
		{ "body_in", (double)body_in, 0 }, { "starved_connections", (double)starved, 0 },
		{ "client_cpu_s", own, 3 }, { "server_cpu_s", cpu, 3 },
		{ "server_cpu_us_per_request", opt.pid_count && completed ? cpu * 1e6 / (double)completed : 0, 2 },
		{ "server_rss_kb", (double)rss, 0 }, { "server_peak_kb", (double)peak, 0 },
		{ "connections", opt.connections, 0 }, { "multiplex", opt.multiplex, 0 }, { "keep_conn", opt.keep_conn, 0 },
		{ "idle", opt.idle, 0 }, { "body", (double)opt.body, 0 }, { "params", param_count, 0 },
		{ "params_bytes", (double)param_bytes, 0 }, { "request_bytes", (double)templates[1].length, 0 },
	};
	printf(opt.json ? "{\"label\":\"%s\"" : "%s\n", opt.label);
	for (size_t i = 0; i < sizeof line / sizeof *line; i++) {
		printf(opt.json ? ",\"%s\":%.*f" : "%-26s %.*f\n", line[i].name, line[i].digits, line[i].value);
	}
	for (int i = 0; i < N_COUNT; i++) {
		if (opt.json) printf(",\"%s\":%ld", counter_name[i], count[i]);
		else if (count[i]) printf("%-26s %ld%s\n", counter_name[i], count[i],
			counter_kind[i] == 'E' ? "  (error)" : counter_kind[i] == 'V' ? "  (violation)" : "");
	}
	fputs(opt.json ? "}\n" : "", stdout);
}
