"""Count the primes below some numbers, wherever calls run."""

from threadkit import BoundedExecutor, executors

ENGINE = executors.threads(2)


def primes_below(limit: int) -> int:
    return sum(all(number % divisor for divisor in range(2, int(number**0.5) + 1)) for number in range(2, limit))


def main() -> None:
    with BoundedExecutor(inner=ENGINE, max_pending=100) as executor:
        for count in executor.map(primes_below, [1_000, 2_000, 3_000, 4_000]):
            print(count)


if __name__ == "__main__":
    main()
