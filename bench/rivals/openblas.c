/* A rival: sgemm of the system's OpenBLAS, behind the benchmark's line protocol (protocol.ts). */
#include <cblas.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

char *openblas_get_config(void);
int openblas_get_num_threads(void);

static float *a, *b, *c;
static int m, k, n;
static CBLAS_TRANSPOSE ta, tb;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return 1e3 * t.tv_sec + 1e-6 * t.tv_nsec;
}

/* inputValue() of tasks.ts */
static float *input(long size, uint32_t salt) {
  float *x = malloc(sizeof(float) * size);
  for (long i = 0; i < size; i++) {
    uint32_t u = ((uint32_t)i + 1 + salt * 0x3504f335u) * 0x9e3779b1u;
    u = (u ^ (u >> 15)) * 0x85ebca77u;
    u ^= u >> 13;
    x[i] = (u >> 8) / 16777216.0f - 0.5f;
  }
  return x;
}

static void run(void) {
  int lda = ta == CblasTrans ? m : k, ldb = tb == CblasTrans ? k : n;
  cblas_sgemm(CblasRowMajor, ta, tb, m, n, k, 1, a, lda, b, ldb, 0, c, n);
}

static long number(const char *line, const char *key) {
  const char *at = strstr(line, key);
  return at ? strtol(at + strlen(key), NULL, 10) : 0;
}

static void prepare(const char *line) {
  if (!strstr(line, "\"gemm\"")) {
    printf("@{\"cannot\":\"OpenBLAS has matrix products only\"}\n");
    return;
  }
  m = number(line, "\"m\":");
  k = number(line, "\"k\":");
  n = number(line, "\"n\":");
  ta = strstr(line, "\"TN\"") ? CblasTrans : CblasNoTrans;
  tb = strstr(line, "\"NT\"") ? CblasTrans : CblasNoTrans;
  a = input((long)m * k, 1);
  b = input((long)k * n, 2);
  c = malloc(sizeof(float) * m * n);
  run();
  printf("@{\"check\":[");
  for (int i = 0; i < 16; i++) printf("%s%.8g", i ? "," : "", c[(long)i * m * n / 16]);
  printf("]}\n");
}

static double average(int calls) {
  double start = now();
  for (int call = 0; call < calls; call++) run();
  return (now() - start) / calls;
}

static int ascending(const void *x, const void *y) {
  double difference = *(const double *)x - *(const double *)y;
  return (difference > 0) - (difference < 0);
}

enum { MOST = 10000 };
static double samples[MOST];

/* timed() of protocol.ts */
static void measure(double budget) {
  double shortest = 1e9, spent = 0;
  for (int call = 0; call == 0 || (call < 3 && spent < budget / 10); call++) {
    double ms = average(1);
    spent += ms;
    if (ms < shortest) shortest = ms;
  }
  if (shortest > budget) {
    printf("@{\"ms\":%.6f}\n", shortest);
    return;
  }
  int group = shortest < 0.5 ? (int)(0.5 / (shortest > 1e-4 ? shortest : 1e-4)) + 1 : 1;
  double end = now() + budget;
  int count = 0;
  while (count == 0 || (count < MOST && now() < end)) samples[count++] = average(group);
  qsort(samples, count, sizeof samples[0], ascending);
  printf("@{\"ms\":%.6f}\n", samples[count / 2]);
}

int main(void) {
  static char line[65536];
  char *config = openblas_get_config(), version[64] = "";
  sscanf(config, "OpenBLAS %63s", version);
  printf("@{\"version\":\"%s\",\"threads\":%d}\n", version, openblas_get_num_threads());
  fflush(stdout);
  while (fgets(line, sizeof line, stdin)) {
    if (strstr(line, "\"prepare\"")) prepare(line);
    else if (strstr(line, "\"time\"")) measure(number(line, "\"time\":"));
    else {
      free(a), free(b), free(c);
      a = b = c = NULL;
      printf("@{}\n");
    }
    fflush(stdout);
  }
  return 0;
}
