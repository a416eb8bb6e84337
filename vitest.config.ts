import { defineConfig } from "vitest/config"

export default defineConfig({
  test: {
    include: ["packages/*/test/**/*.test.ts", "apps/*/test/**/*.test.ts", "test/**/*.test.ts"],
    globalSetup: ["packages/store/src/testing/globalSetup.ts"],
    setupFiles: ["./test/support/FastCheck.ts"],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    // Tests that start programs meet a busy machine now and then; what fails twice has failed.
    retry: 1,
    pool: "forks",
    maxWorkers: 2
  }
})
