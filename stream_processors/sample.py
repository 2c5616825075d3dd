"""`python -m stream_processors.sample`; thin, because the decoding child passes through here when it starts."""

if __name__ == "__main__":
    from stream_processors.sample_process import main

    main()
