#!/usr/bin/env node
/**
 * The program that runs a home server: the same as `greenroom serve`.
 */
import { serve } from "./Serve.ts"

serve(process.argv.slice(2))
