// Scale Mesh (like Vercel) tells a build about itself through environment variables. They are read here, at build
// time, and become constants of the page: nothing is asked at run time.
import { defineConfig } from 'vite'

const env = process.env

const facts = {
  project: env.SCALEMESH_PROJECT ?? '',
  deployment: env.SCALEMESH_DEPLOYMENT ?? '',
  environment: env.VERCEL_ENV ?? 'development',
  commit: env.VERCEL_GIT_COMMIT_SHA ?? '',
  branch: env.VERCEL_GIT_COMMIT_REF ?? '',
  message: env.VERCEL_GIT_COMMIT_MESSAGE ?? '',
  url: env.VERCEL_URL ?? '',
  node: process.version,
  builtAt: new Date().toISOString(),
}

export default defineConfig({
  define: { __FACTS__: JSON.stringify(facts) },
})
