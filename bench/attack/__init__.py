"""Whatever comes in from outside, made wrong on purpose: `llmos bench attack`, `make attack`."""
