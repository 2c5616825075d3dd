"""`python -m producers.gateway`; thin, because every decoding child passes through here when it starts."""

if __name__ == "__main__":
    from producers.gateway.serve import main

    main()
