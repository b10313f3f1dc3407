from deeplora import main

main()
