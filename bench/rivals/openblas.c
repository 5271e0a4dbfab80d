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

/* timed() of protocol.ts */
static void measure(double budget) {
  double start = now();
  run();
  double first = now() - start;
  if (first > budget) {
    printf("@{\"samples\":[%.6f]}\n", first);
    return;
  }
  int group = first < 0.5 ? (int)(0.5 / (first > 1e-4 ? first : 1e-4)) + 1 : 1;
  double end = now() + budget;
  printf("@{\"samples\":[");
  for (int count = 0; count == 0 || now() < end; count++) {
    start = now();
    for (int turn = 0; turn < group; turn++) run();
    printf("%s%.6f", count ? "," : "", (now() - start) / group);
  }
  printf("]}\n");
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
