"""Hosts of packages and of Git: what a build reaches where builds.network is "packages".

``*.name`` stands for all hosts below the name. Source: the hosts that the package managers and Git hosts named here
use by their own documentation.
"""

from typing import Final

PACKAGE_HOSTS: Final = (
    # npm, pnpm, yarn, bun; Node itself and its headers
    *("registry.npmjs.org", "registry.npmjs.com", "registry.yarnpkg.com", "repo.yarnpkg.com", "nodejs.org"),
    # Python
    *("pypi.org", "files.pythonhosted.org"),
    # Ruby, Go, Rust, PHP, JSR, Deno
    *(
        "rubygems.org",
        "index.rubygems.org",
        "proxy.golang.org",
        "sum.golang.org",
        "index.crates.io",
        "static.crates.io",
    ),
    *("crates.io", "repo.packagist.org", "jsr.io", "npm.jsr.io", "deno.land"),
)
GIT_HOSTS: Final = (
    *(
        "github.com",
        "api.github.com",
        "codeload.github.com",
        "*.githubusercontent.com",
        "github-cloud.s3.amazonaws.com",
    ),
    *("npm.pkg.github.com", "gitlab.com", "registry.gitlab.com", "bitbucket.org", "codeberg.org", "git.sr.ht"),
)
