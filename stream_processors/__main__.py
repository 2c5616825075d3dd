"""`python -m stream_processors LANE N`; thin, because every decoding child passes through here when it starts."""

if __name__ == "__main__":
    from stream_processors.worker import main

    main()
