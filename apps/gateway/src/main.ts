#!/usr/bin/env node
/**
 * The program that runs a home server: the same as `greenroom serve`.
 */
import { useCompileCache } from "@greenroom/gateway/CompileCache"
import { useV8Options } from "./NodeOptions.ts"

useV8Options()
useCompileCache()
const { serve } = await import("./Serve.ts")
serve(process.argv.slice(2))
